"""Network namespaces of our own, joined by wires that can be cut, each way by itself.

    here (the clients) ──── CLIENTS ──── the session manager's ──── NODE ──── the node's

A cut is a wrong hardware address for the neighbour: packets leave and nobody takes them, as with a
broken switch, so neither side is told anything.
"""

import itertools
import os
import subprocess

CLIENTS, NODE = "clients", "node"
_NOBODY = "02:00:00:00:00:99"
_serial = itertools.count()


class Network:
    """Two namespaces and two wires.

    Attributes:
        manager, node: The names of the namespaces.
        addresses: Of each wire, its outer end and the session manager's.
    """

    def __init__(self) -> None:
        # A name of its own for each: the kernel takes a while to let go of those that were deleted.
        tag = f"fl{os.getpid() % 100_000}{next(_serial) % 100}"
        number = os.getpid() % 250
        self.manager, self.node = f"{tag}m", f"{tag}n"
        self.addresses = {
            CLIENTS: (f"10.211.{number}.1", f"10.211.{number}.2"),
            NODE: (f"10.212.{number}.1", f"10.212.{number}.2"),
        }
        self._ends = {CLIENTS: ("", self.manager), NODE: (self.node, self.manager)}
        self._devices = {w: (f"{tag}{w[0]}o", f"{tag}{w[0]}i") for w in self._ends}
        self._macs: dict[str, str] = {}
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def cut(self, wire: str, *, outwards: bool = True, inwards: bool = True) -> None:
        """Lose what goes to (``inwards``) or comes from the session manager on a wire."""
        if inwards:
            self._aim(wire, 0, _NOBODY)
        if outwards:
            self._aim(wire, 1, _NOBODY)

    def heal(self, wire: str) -> None:
        """Deliver again."""
        for side in (0, 1):
            self._aim(wire, side, self._macs[self._devices[wire][1 - side]])

    def close(self) -> None:
        """Remove everything."""
        for device in (outer for outer, _ in self._devices.values()):
            subprocess.run(["ip", "link", "del", device], capture_output=True, check=False)
        for name in (self.manager, self.node):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _make(self) -> None:
        for name in (self.manager, self.node):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for wire, ends in self._ends.items():
            outer, inner = self._devices[wire]
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            for device, where, address in zip(
                (outer, inner), ends, self.addresses[wire], strict=True
            ):
                if where:
                    _ip("link", "set", device, "netns", where)
                inside = ("-n", where) if where else ()
                _ip(*inside, "addr", "add", f"{address}/30", "dev", device)
                _ip(*inside, "link", "set", device, "up")
                words = _ip(*inside, "-o", "link", "show", device).split()
                self._macs[device] = words[words.index("link/ether") + 1]
            self.heal(wire)

    def _aim(self, wire: str, side: int, mac: str) -> None:
        """Have one end of a wire send what is for the other to this hardware address."""
        where, device = self._ends[wire][side], self._devices[wire][side]
        there = self.addresses[wire][1 - side]
        inside = ("-n", where) if where else ()
        _ip(*inside, "neigh", "replace", there, "lladdr", mac, "dev", device, "nud", "permanent")


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PermissionError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def network() -> Network | None:
    """Return a network of namespaces; None where there is no right to make one."""
    try:
        return Network()
    except (PermissionError, FileNotFoundError):
        return None


def can_make() -> bool:
    """Whether this user may make network namespaces."""
    found = network()
    if found is not None:
        found.close()
    return found is not None
