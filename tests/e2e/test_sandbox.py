"""A Python service without network, in a real cluster: its executor's connection is passed in."""

import os
import socket
from pathlib import Path

import cloudpickle
import pytest

import flame
from flame.executor_manager.sandbox import find_bubblewrap
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.sdk.local_cluster import LocalCluster
from flame.wire.channels import Endpoint
from tests.e2e.test_faults import kill_and_await_restart


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    found = find_bubblewrap()
    if not found.path:
        pytest.skip(f"NOT TESTED: {found.description}; `make test` installs it where it may")


def test_a_python_service_without_network_does_its_tasks_and_survives_a_restart_of_the_manager(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with (
        LocalCluster(executors=1) as cluster,
        flame.connect(cluster.endpoint, token=cluster.token) as client,
    ):
        port = Endpoint.parse(cluster.endpoint).port

        def probe(order: bytes | None) -> bytes:
            if order == b"connect":
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            if order == b"look":
                return str(os.path.exists(token)).encode()
            return (order or b"") + b" done"

        spec = ApplicationSpec(
            shim=ShimKind.PYTHON,
            pickled_service=cloudpickle.dumps(probe),
            sandbox=Sandbox.STRICT,
        )
        client.register_application("closed", spec)
        with client.create_session("closed") as session:
            assert session.invoke(b"first") == b"first done"
            assert session.invoke(b"look") == b"False"
            with pytest.raises(flame.TaskFailed, match="ConnectionRefusedError"):
                session.invoke(b"connect")
            kill_and_await_restart(cluster)  # executors go on, over a new connection
            assert session.invoke(b"second") == b"second done"
