"""The table of methods that clients and servers share."""

from flame.wire import reflection, v1


def test_every_rpc_is_named_with_its_messages() -> None:
    assert len(v1.FRONTEND) == 18
    assert len(v1.BACKEND) == 12
    assert len(v1.INSTANCE) == 3
    watch = v1.FRONTEND["WatchTask"]
    assert watch.path == "/flame.v1.Frontend/WatchTask"
    assert watch.request is v1.WatchTaskRequest
    assert watch.response is v1.Task
    assert (watch.client_streams, watch.server_streams) == (False, True)


def test_reflection_describes_every_service_that_is_served() -> None:
    pool = reflection.served_pool()
    for name in reflection.served_services():
        assert pool.FindServiceByName(name).full_name == name
    assert {"flame.v1.Frontend", "flame.Frontend"} <= set(reflection.served_services())
    assert "flame.channel.v1.TaskChannel" in reflection.served_services()
