"""Labels, GPUs and gangs, over a real cluster."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.model.errors import InvalidRequest
from flame.sdk.local_cluster import LocalCluster

FINISH = 60.0
VARIABLES = (
    "FLAME_GPU_IDS",
    "CUDA_VISIBLE_DEVICES",
    "FLAME_RANK",
    "FLAME_WORLD_SIZE",
    "FLAME_PEERS",
    "FLAME_PEER_IDS",
)


class Tells(flame.FlameService):
    """Answers with what it was told of its place."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self._told = {
            "rank": context.rank,
            "peers": [peer.executor for peer in context.peers],
            "pid": os.getpid(),
            **{name: os.environ.get(name) for name in VARIABLES},
        }

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        time.sleep(0.2)
        return json.dumps(self._told).encode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flame.Client]:
    file = tmp_path_factory.mktemp("placement") / "flame-cluster.yaml"
    file.write_text(
        "cluster: {name: c, endpoint: 'http://127.0.0.1:1'}\n"
        "node: {labels: {zone: a}, resources: 'gpu=2,fpga=1'}\n"
    )
    cluster = LocalCluster(executors=3, storage="memory", config=Path(file))
    with cluster, flame.connect(cluster.endpoint, token=cluster.token) as connected:
        yield connected


def told(session: flame.Session, tasks: int) -> list[dict[str, object]]:
    """What each of the session's executors was told, by pid."""
    futures = [session.run(b"") for _ in range(tasks)]
    answers = [json.loads(future.result(FINISH) or b"") for future in futures]
    return list({answer["pid"]: answer for answer in answers}.values())


def test_two_executors_have_a_gpu_each_and_a_third_sees_none(client: flame.Client) -> None:
    with client.create_session(Tells, resources="cpu=1,mem=1m,gpu=1", min_instances=2) as session:
        found = told(session, 8)
        assert sorted(str(one["FLAME_GPU_IDS"]) for one in found) == ["0", "1"]
        assert all(one["CUDA_VISIBLE_DEVICES"] == one["FLAME_GPU_IDS"] for one in found)
        ids = [e.gpu_ids for e in client.list_executors() if e.session == session.name]
        assert sorted(ids) == [("0",), ("1",)]
        with client.create_session(Tells, resources="cpu=1,mem=1m") as other:
            assert told(other, 1)[0]["CUDA_VISIBLE_DEVICES"] == ""


def test_labels_and_extras_decide_and_what_nobody_has_is_refused(client: flame.Client) -> None:
    wanted = "cpu=1,mem=1m,fpga=1"
    with client.create_session(Tells, resources=wanted, require="zone=a,os=linux") as session:
        assert len(told(session, 2)) == 1
    with pytest.raises(
        InvalidRequest, match=r"needs label zone=b, which no node has \(zone is a\)"
    ):
        client.create_session(Tells, require={"zone": "b"})
    with pytest.raises(InvalidRequest, match="would take cpu=1,mem=0,fpga=2, which no node has"):
        client.create_session(Tells, resources="cpu=1,fpga=2")


def test_a_gang_knows_itself_and_starts_again_whole(client: flame.Client) -> None:
    with client.create_session(Tells, batch_size=2, max_instances=2) as session:
        found = sorted(told(session, 6), key=lambda one: str(one["rank"]))
        for rank, one in enumerate(found):
            assert one["rank"] == rank
            assert one["FLAME_RANK"] == str(rank)
            assert one["FLAME_WORLD_SIZE"] == "2"
            assert one["FLAME_PEERS"] == "127.0.0.1,127.0.0.1"
            assert one["peers"] == str(one["FLAME_PEER_IDS"]).split(",")
        assert found[0]["peers"] == found[1]["peers"]
        os.kill(int(str(found[1]["pid"])), signal.SIGKILL)
        again = sorted(told(session, 8), key=lambda one: str(one["rank"]))
        fresh = [one for one in again if one["pid"] not in {one["pid"] for one in found}]
        assert [one["rank"] for one in fresh] == [0, 1]
        assert fresh[0]["peers"] != found[0]["peers"]
