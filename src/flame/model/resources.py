"""What executors occupy and nodes offer."""

from dataclasses import dataclass

GIB = 1024**3

#: Named amounts beside CPU, memory and GPUs, sorted by name, none of them zero.
Extras = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of each resource. CPU in thousandths of a core, memory in bytes.

    Attributes:
        extras: What else a site counts (``fpga``, ``license/x``); :func:`extras` makes it canonical.
    """

    cpu_millis: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    extras: Extras = ()

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.gpus + other.gpus,
            _merged(self.extras, other.extras, 1) if other.extras else self.extras,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.gpus - other.gpus,
            _merged(self.extras, other.extras, -1) if other.extras else self.extras,
        )

    def __mul__(self, count: int) -> "Resources":
        return Resources(
            self.cpu_millis * count,
            self.memory_bytes * count,
            self.gpus * count,
            extras({name: n * count for name, n in self.extras}) if self.extras else (),
        )

    def fits_in(self, capacity: "Resources") -> bool:
        """Whether this much can be taken out of ``capacity``."""
        return (
            self.cpu_millis <= capacity.cpu_millis
            and self.memory_bytes <= capacity.memory_bytes
            and self.gpus <= capacity.gpus
            and (
                not (self.extras or capacity.extras)
                or all(need <= have for _, need, have in _pairs(self.extras, capacity.extras))
            )
        )

    def count_in(self, capacity: "Resources") -> int:
        """How many times this fits in ``capacity``. An empty amount fits 0 times."""
        counts = [have // need for _, need, have in self._against(capacity) if need > 0]
        return max(0, min(counts, default=0))

    def dominant_share(self, total: "Resources") -> float:
        """The largest fraction of ``total`` that this takes of any one resource.

        Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
        """
        return max((used / have for _, used, have in self._against(total) if have > 0), default=0.0)

    def amount_of(self, name: str) -> int:
        """How much there is of an extra; 0 if it is not named."""
        return dict(self.extras).get(name, 0)

    def named(self) -> list[tuple[str, int]]:
        """Every resource by the name that people write: cpu (millis), mem, gpu, then the extras."""
        return [
            ("cpu", self.cpu_millis),
            ("mem", self.memory_bytes),
            ("gpu", self.gpus),
            *self.extras,
        ]

    def _against(self, other: "Resources") -> list[tuple[str, int, int]]:
        standard = [
            ("cpu", self.cpu_millis, other.cpu_millis),
            ("mem", self.memory_bytes, other.memory_bytes),
            ("gpu", self.gpus, other.gpus),
        ]
        if self.extras or other.extras:
            standard += _pairs(self.extras, other.extras)
        return standard

    def __str__(self) -> str:
        parts = [f"cpu={self.cpu_millis / 1000:g}", f"mem={format_bytes(self.memory_bytes)}"]
        if self.gpus:
            parts.append(f"gpu={self.gpus}")
        parts += [f"{name}={count}" for name, count in self.extras]
        return ",".join(parts)


def extras(amounts: dict[str, int]) -> Extras:
    """Return named amounts as :class:`Resources` keeps them: sorted, without zeros."""
    return tuple(sorted((name, count) for name, count in amounts.items() if count))


def _merged(mine: Extras, theirs: Extras, sign: int) -> Extras:
    amounts = dict(mine)
    for name, count in theirs:
        amounts[name] = amounts.get(name, 0) + sign * count
    return extras(amounts)


def _pairs(mine: Extras, theirs: Extras) -> list[tuple[str, int, int]]:
    have, need = dict(theirs), dict(mine)
    return [(n, need.get(n, 0), have.get(n, 0)) for n in sorted(have.keys() | need.keys())]


#: What an instance of a session takes when neither the session nor the cluster says.
UNIT = Resources(cpu_millis=1000, memory_bytes=GIB)


def slots_of(resources: Resources) -> int:
    """Return how many unit executors an instance takes, rounded up, at least one."""
    return max(
        1,
        -(-resources.cpu_millis // UNIT.cpu_millis),
        -(-resources.memory_bytes // UNIT.memory_bytes),
    )


def format_bytes(count: int) -> str:
    """Write a number of bytes with the largest binary unit that divides it well: ``1.5g``."""
    for unit, size in (("t", 1024**4), ("g", GIB), ("m", 1024**2), ("k", 1024)):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)
