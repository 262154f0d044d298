"""Experiments with the network: R7 through TCP proxies, which run everywhere; R7-net between namespaces.

A proxy can do what TCP does on a bad network: keep back, be slow, tear a message, forget one side. Namespaces lose
packets, so TCP's own patience counts there, and use TLS.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trustme

from flame.session_manager.stream import SILENCE
from flame.wire.channels import Endpoint
from tests.chaos import network as net
from tests.chaos.cluster import MANAGER, ChaosCluster
from tests.chaos.cluster import NODE as EXECUTORS
from tests.chaos.evidence import Entry
from tests.chaos.experiment import Experiment, Failed
from tests.chaos.network import CLIENTS, NODE, Network
from tests.chaos.proxy import ADDRESSES, Proxies

PORT = 7301
WHOLE = "whole"
TO, FROM = "one way, to the session manager", "one way, from the session manager"
HALF_OPEN = "half-open: the node dies behind it"
CUTS: dict[str, dict[str, bool]] = {
    WHOLE: {},
    TO: {"outwards": False},
    FROM: {"inwards": False},
    HALF_OPEN: {},
}
FORGET = {"outer": "forgotten by its peer", "inner": "forgotten by the session manager"}
DELAY = 0.25  # seconds each way, on a wire that is slow
RECOVERS_WITHIN = 5.0  # seconds from healing to the next outcome
NOTICED_WITHIN = SILENCE + 6.0
BUSY = 4.0  # how much longer everything may take in a slice, beside other tests


class Wires(Protocol):
    """What can be cut."""

    def cut(self, wire: str, *, outwards: bool = True, inwards: bool = True) -> None:
        """Lose what goes to (``inwards``) or comes from the session manager on a wire."""

    def heal(self, wire: str) -> None:
        """Deliver again."""


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


class FarCluster(ChaosCluster):
    """A cluster whose clients and node reach the session manager through proxies."""

    def __init__(self, directory: Path, proxies: Proxies, bug: str | None) -> None:
        super().__init__(directory, 2, bug, module="tests.chaos.far_manager")
        self._listen = Endpoint("127.0.0.1", proxies.port, tls=False)

    def start(self) -> None:
        super().start()
        self.endpoint = self._seen_from(CLIENTS)

    def _seen_from(self, wire: str) -> str:
        return f"http://{ADDRESSES[wire]}:{self._listen.port}"

    def _node_command(self, endpoint: str) -> list[str]:
        return super()._node_command(self._seen_from(NODE))


def r7(x: Experiment) -> None:
    """Proxies cut, slow down, tear and forget the connections of the clients, and of the node."""
    proxies = Proxies(x.random)
    x.resources.callback(proxies.close)
    run = _Run(x, FarCluster(x.directory / "cluster", proxies, x.bug), proxies)
    for wire, way, seconds in _cuts(x):
        run.cut(wire, way, seconds)
    for wire in (CLIENTS, NODE):
        run.slow(proxies, wire)
        for _ in range(x.amount(20, 3)):
            run.tear(proxies, wire)
        if x.scale >= 1:
            for side in FORGET:
                run.forget(proxies, wire, side)


def r7_net(x: Experiment) -> None:
    """Packets are lost between network namespaces: whole, one way, the other, half-open."""
    network = net.network()
    if network is None:
        x.report.notes.append("NOT RUN: no right to make network namespaces here; R7 has proxies")
        return
    x.resources.callback(network.close)
    run = _Run(x, SpreadCluster(x.directory / "cluster", network, x.bug), network)
    for wire, way, seconds in _cuts(x):
        run.cut(wire, way, seconds)


def _cuts(x: Experiment) -> list[tuple[str, str, float]]:
    """Return partitions that are shorter than anyone notices, and longer ones."""
    cuts = [(wire, way, 3.0) for wire in (CLIENTS, NODE) for way in (WHOLE, TO, FROM)]
    if x.scale < 1:
        return x.random.sample(cuts, 2)
    odd = (x.random.choice((NODE, CLIENTS)), x.random.choice((TO, FROM)), NOTICED_WITHIN)
    return [
        *cuts,
        (NODE, HALF_OPEN, 3.0),
        (NODE, WHOLE, NOTICED_WITHIN),
        (CLIENTS, WHOLE, NOTICED_WITHIN),
        odd,
    ]


class _Run:
    """A cluster under load, and what is done to its wires."""

    def __init__(self, x: Experiment, cluster: ChaosCluster, wires: Wires) -> None:
        self._x = x
        self._cluster = cluster
        self._wires = wires
        x.start(cluster=cluster)
        self._session = x.session(max_attempts=10)
        x.task(self._session).future.result(60.0)
        self._logs = {name: cluster.directory / f"{name}.log" for name in (MANAGER, EXECUTORS)}

    def cut(self, wire: str, way: str, seconds: float) -> None:
        """Cut a wire for so long; nothing goes through it, and soon after it is whole everything does."""
        x = self._x
        if not x.has_time:
            return
        self._load()
        noticed = {name: log.stat().st_size for name, log in self._logs.items()}
        self._wires.cut(wire, **CUTS[way])
        x.fault(f"partition of {wire}, {way}, for {seconds:g} s")
        if way == HALF_OPEN:
            self._cluster.kill(EXECUTORS)
        entry = x.task(self._session)
        time.sleep(seconds)
        if seconds > SILENCE:
            sides = (MANAGER, EXECUTORS) if (wire, way) == (NODE, WHOLE) else (MANAGER,)
            for side in sides:
                self._noticed(side, noticed[side])
        if entry.outcomes:
            raise Failed(f"a task went through a partition ({wire}, {way})")
        self._wires.heal(wire)
        self._recovers(entry, f"partition of {wire}, {way}", RECOVERS_WITHIN)

    def slow(self, proxies: Proxies, wire: str) -> None:
        """A slow wire loses nothing, and is nobody's silence."""
        x = self._x
        if not x.has_time:
            return
        proxies.slow(wire, DELAY)
        x.fault(f"slow wire of {wire}, {DELAY:g} s each way")
        entries = [x.task(self._session) for _ in range(x.amount(200, 50))]
        for entry in entries:
            entry.future.result(60.0)
        proxies.heal(wire)

    def tear(self, proxies: Proxies, wire: str) -> None:
        """The next connections that carry something break in the middle of it."""
        x = self._x
        if not x.has_time:
            return
        self._load(20)
        proxies.tear(wire, 1)
        x.fault(f"connection of {wire} torn in a message")
        self._recovers(x.task(self._session), f"torn connection of {wire}", RECOVERS_WITHIN)

    def forget(self, proxies: Proxies, wire: str, side: str) -> None:
        """One side's connections end, and the other one has to find that out by itself."""
        x = self._x
        if not x.has_time:
            return
        self._load()
        what = f"connections of {wire} {FORGET[side]}"
        proxies.forget(wire, side)
        x.fault(what)
        self._recovers(x.task(self._session), what, NOTICED_WITHIN + RECOVERS_WITHIN)

    def _load(self, full: int = 2_000) -> None:
        for _ in range(self._x.amount(full, 100)):
            self._x.task(self._session, self._x.random.choice(("ok", "ok", "ok", "ms 2")))

    def _recovers(self, entry: Entry, what: str, within: float) -> None:
        x = self._x
        took = x.recovered_when(_has_ended(entry), f"an outcome after a {what}")
        if took > within * (1 if x.scale >= 1 else BUSY):
            raise Failed(f"after a {what} it took {took:.1f} s")
        if self._cluster.restarts[MANAGER]:
            raise Failed(f"a {what} ended the session manager")

    def _noticed(self, side: str, since: int) -> None:
        with self._logs[side].open() as file:
            file.seek(since)
            if "silent" not in (said := file.read()):
                raise Failed(f"the {side} did not notice the partition:\n{said}")


def _has_ended(entry: Entry) -> Callable[[], bool]:
    return lambda: bool(entry.outcomes)
