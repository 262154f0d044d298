"""Volumes through a whole cluster: allowed, refused, read-only where a sandbox enforces it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


class Places(flame.FlameService):
    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        told = [dict(context.labels), context.input_path, context.output_path]
        return json.dumps(told).encode()


def test_a_task_has_labels_and_places_on_volumes(client: Client, srv: Path) -> None:
    volumes = flame.Volume("in", f"{srv}/in"), flame.Volume("out", f"{srv}/out", writable=True)
    (srv / "in" / "etc").symlink_to("/etc")
    spec = ApplicationSpec(
        shim=ShimKind.PYTHON, pickled_service=cloudpickle.dumps(Places), volumes=volumes
    )
    client.register_application("places", spec)
    with client.create_session("places") as session:
        future = session.run(
            labels={"run": "7"}, input_location="in/word", output_location="out/2024/a"
        )
        plain = session.run()
        wanted = [{"run": "7"}, f"{srv}/in/word", f"{srv}/out/2024/a"]
        assert json.loads(future.result(FINISH) or b"") == wanted
        assert json.loads(plain.result(FINISH) or b"") == [{}, None, None]
        task = session.get_task(future.task_id or 0)
        assert task.labels == (("run", "7"),)
        assert (task.input_location, task.output_location) == ("in/word", "out/2024/a")
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"input_location": "no/x"}, "has no volume 'no'; it has in, out"),
            ({"output_location": "in/x"}, "volume 'in' is read-only"),
            ({"input_location": "in/etc/passwd"}, "leads out of volume 'in'"),
        ]
        for places, said in wrong:
            with pytest.raises(flame.TaskFailed, match=said):
                session.run(**places).result(FINISH)
        with pytest.raises(flame.InvalidRequest, match="input_location is"):
            session.run(input_location="in/../x")
