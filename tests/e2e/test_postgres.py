"""A cluster whose session manager keeps its sessions in PostgreSQL."""

import os
import signal

import flame
from tests.conftest import StartCluster
from tests.postgres_server import PostgresServer


def test_a_killed_session_manager_finds_its_tasks_in_postgresql(
    start_cluster: StartCluster, postgres: PostgresServer
) -> None:
    url = postgres.new_database()
    cluster = start_cluster(executors=2, storage=url)
    inputs = [b"%d" % n for n in range(6_000)]
    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session("flmping") as session,
    ):
        futures = [session.run(given) for given in inputs]
        futures[500].result(timeout=60)
        os.kill(cluster.pids["session-manager"], signal.SIGKILL)
        assert [future.result(timeout=60) for future in futures] == inputs
    cluster.stop()
    with postgres.connect(url) as database:
        counted = database.execute("SELECT sum(count), sum(succeeded) FROM flame.outcomes")
        assert counted.fetchone() == (6_000, 6_000)
        assert database.execute("SELECT epoch FROM flame.lease").fetchone() == (2,)
