"""Experiments with the network: R7."""

import time
from pathlib import Path

import trustme

from flame.session_manager.stream import SILENCE
from flame.wire.channels import Endpoint
from tests.chaos import network as net
from tests.chaos.cluster import MANAGER, ChaosCluster
from tests.chaos.cluster import NODE as EXECUTORS
from tests.chaos.experiment import Experiment, Failed
from tests.chaos.network import CLIENTS, NODE, Network

PORT = 7301
HALF_OPEN = "half-open: the node dies behind it"
RECOVERS_WITHIN = 5.0  # seconds from healing to the next outcome
NOTICED_WITHIN = SILENCE + 6.0


class SpreadCluster(ChaosCluster):
    """A cluster whose session manager and node are in namespaces of their own."""

    def __init__(self, directory: Path, network: Network, bug: str | None) -> None:
        super().__init__(directory, 2, bug)
        self._network = network
        self._listen = Endpoint("0.0.0.0", PORT, tls=False)
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert(*(ends[1] for ends in network.addresses.values()))
        self.ca_file, self._cert, self._key = (
            directory / name for name in ("ca.pem", "cert.pem", "key.pem")
        )
        authority.cert_pem.write_to_path(str(self.ca_file))
        certificate.cert_chain_pems[0].write_to_path(str(self._cert))
        certificate.private_key_pem.write_to_path(str(self._key))

    def start(self) -> None:
        super().start()
        self.endpoint = self._seen_from(CLIENTS)

    def _seen_from(self, wire: str) -> str:
        return f"https://{self._network.addresses[wire][1]}:{PORT}"

    def _manager_command(self, where: object) -> list[str]:
        _, *command = super()._manager_command(where)
        tls = ["--tls-cert", str(self._cert), "--tls-key", str(self._key)]
        return ["-m", "tests.chaos.in_namespace", self._network.manager, *command, *tls]

    def _node_command(self, endpoint: str) -> list[str]:
        _, *command = super()._node_command(self._seen_from(NODE))
        ca_file = ["--ca-file", str(self.ca_file)]
        return ["-m", "tests.chaos.in_namespace", self._network.node, *command, *ca_file]


def r7(x: Experiment) -> None:
    """Partitions: whole, one way, the other; shorter than anyone notices, and longer."""
    network = net.network()
    if network is None:
        x.report.notes.append("NOT RUN: no right to make network namespaces here")
        return
    x.resources.callback(network.close)
    cluster = SpreadCluster(x.directory / "cluster", network, x.bug)
    x.start(cluster=cluster)
    session = x.session(max_attempts=10)
    x.task(session).future.result(60.0)
    ways = {
        "whole": {},
        "one way, to the session manager": {"outwards": False},
        "one way, from the session manager": {"inwards": False},
        HALF_OPEN: {},
    }
    cuts = [(wire, way, 3.0) for wire in (CLIENTS, NODE) for way in ways if way != HALF_OPEN]
    if x.scale >= 1:
        cuts += [(NODE, HALF_OPEN, 3.0)]
        cuts += [(NODE, "whole", NOTICED_WITHIN), (CLIENTS, "whole", NOTICED_WITHIN)]
        cuts += [
            (x.random.choice((NODE, CLIENTS)), x.random.choice(list(ways)[1:3]), NOTICED_WITHIN)
        ]
    else:
        cuts = x.random.sample(cuts, 2)
    logs = {name: cluster.directory / f"{name}.log" for name in (MANAGER, EXECUTORS)}
    for wire, way, seconds in cuts:
        if not x.has_time:
            break
        for _ in range(x.amount(2_000, 100)):
            x.task(session, x.random.choice(("ok", "ok", "ok", "ms 2")))
        noticed = {name: log.stat().st_size for name, log in logs.items()}
        network.cut(wire, **ways[way])
        x.fault(f"partition of {wire}, {way}, for {seconds:g} s")
        if way == HALF_OPEN:
            cluster.kill(EXECUTORS)
        entry = x.task(session)
        time.sleep(seconds)
        if seconds > SILENCE:
            sides = (MANAGER, EXECUTORS) if (wire, way) == (NODE, "whole") else (MANAGER,)
            for side in sides:
                with logs[side].open() as file:
                    file.seek(noticed[side])
                    if "silent" not in (said := file.read()):
                        raise Failed(f"the {side} did not notice the partition:\n{said}")
        if entry.outcomes:
            raise Failed(f"a task went through a partition ({wire}, {way})")
        network.heal(wire)
        took = x.recovered_when(lambda: bool(entry.outcomes), "an outcome after a partition")  # noqa: B023
        if took > RECOVERS_WITHIN * (1 if x.scale >= 1 else 4):
            raise Failed(f"after a partition ({wire}, {way}) it took {took:.1f} s")
        if cluster.restarts[MANAGER]:
            raise Failed("a partition ended the session manager")
