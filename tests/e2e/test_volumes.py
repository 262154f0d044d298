"""Volumes through a whole cluster: allowed, refused, read-only where a sandbox enforces it."""

import os
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

import flame
from flame.executor_manager.sandbox import find_bubblewrap
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.sdk.client import Client
from flame.sdk.local_cluster import LocalCluster

FINISH = 60.0


@pytest.fixture(scope="module")
def srv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    srv = tmp_path_factory.mktemp("srv")
    for name in ("in", "out"):
        (srv / name).mkdir()
    (srv / "in" / "word").write_text("hello")
    return srv


@pytest.fixture(scope="module")
def client(srv: Path) -> Iterator[Client]:
    config = srv.parent / "flame-cluster.yaml"
    config.write_text(
        "cluster: {name: c, endpoint: 'http://127.0.0.1:1'}\n"
        f"node: {{volumes: ['{srv}/in', '{srv}/out:rw']}}\n"
    )
    with (
        LocalCluster(executors=2, config=config) as cluster,
        flame.connect(cluster.endpoint, token=cluster.token) as client,
    ):
        yield client


def copies(client: Client, name: str, *volumes: flame.Volume, sandbox: Sandbox) -> flame.Session:
    """A session whose tasks copy a word from one volume to the file that they name."""

    def copy(target: bytes | None) -> bytes:
        with open(os.environ["FLAME_VOLUME_IN"] + "/word", "rb") as file:
            word = file.read()
        variable, _, rest = (target or b"").decode().partition("/")
        with open(os.environ[variable] + "/" + rest, "wb") as file:
            file.write(word)
        return word

    spec = ApplicationSpec(
        shim=ShimKind.PYTHON,
        pickled_service=cloudpickle.dumps(copy),
        sandbox=sandbox,
        volumes=volumes,
    )
    client.register_application(name, spec)
    return client.create_session(name)


@pytest.mark.parametrize("sandbox", [Sandbox.NONE, Sandbox.STRICT])
def test_services_read_and_write_their_volumes(client: Client, srv: Path, sandbox: Sandbox) -> None:
    if sandbox and not find_bubblewrap().path:
        pytest.skip(f"NOT TESTED: {find_bubblewrap().description}")
    volumes = flame.Volume("in", f"{srv}/in"), flame.Volume("out", f"{srv}/out", writable=True)
    with copies(client, f"copies{sandbox}", *volumes, sandbox=sandbox) as session:
        target = f"FLAME_VOLUME_OUT/{sandbox.value}done".encode()
        assert session.run(target).result(FINISH) == b"hello"
        assert (srv / "out" / f"{sandbox.value}done").read_text() == "hello"
        if sandbox:
            with pytest.raises(flame.TaskFailed, match="Read-only file system"):
                session.run(b"FLAME_VOLUME_IN/new").result(FINISH)
            assert not (srv / "in" / "new").exists()


@pytest.mark.parametrize("sandbox", [Sandbox.NONE, Sandbox.STRICT])
def test_a_volume_that_the_node_does_not_allow_is_refused_at_bind(
    client: Client, srv: Path, sandbox: Sandbox
) -> None:
    if sandbox and not find_bubblewrap().path:
        pytest.skip(f"NOT TESTED: {find_bubblewrap().description}")
    for number, (volume, said) in enumerate(
        [
            (flame.Volume("in", "/etc"), "which this node does not allow"),
            (flame.Volume("in", f"{srv}/in", writable=True), "to be read only"),
        ]
    ):
        session = copies(client, f"no{sandbox}{number}", volume, sandbox=sandbox)
        with pytest.raises(flame.FlameError, match=said):
            session.run(b"FLAME_VOLUME_IN/x").result(FINISH)
        session.close(cancel_running=True)
