"""What executors occupy and nodes offer."""

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of each resource. CPU in thousandths of a core, memory in bytes."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.gpus + other.gpus,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.gpus - other.gpus,
        )

    def __mul__(self, count: int) -> "Resources":
        return Resources(self.cpu_millis * count, self.memory_bytes * count, self.gpus * count)

    def fits_in(self, capacity: "Resources") -> bool:
        """Whether this much can be taken out of ``capacity``."""
        return (
            self.cpu_millis <= capacity.cpu_millis
            and self.memory_bytes <= capacity.memory_bytes
            and self.gpus <= capacity.gpus
        )

    def count_in(self, capacity: "Resources") -> int:
        """How many times this fits in ``capacity``. An empty amount fits 0 times."""
        counts = [
            have // need
            for need, have in (
                (self.cpu_millis, capacity.cpu_millis),
                (self.memory_bytes, capacity.memory_bytes),
                (self.gpus, capacity.gpus),
            )
            if need > 0
        ]
        return max(0, min(counts, default=0))

    def dominant_share(self, total: "Resources") -> float:
        """The largest fraction of ``total`` that this takes of any one resource.

        Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
        """
        shares = [
            used / have
            for used, have in (
                (self.cpu_millis, total.cpu_millis),
                (self.memory_bytes, total.memory_bytes),
                (self.gpus, total.gpus),
            )
            if have > 0
        ]
        return max(shares, default=0.0)

    def __str__(self) -> str:
        parts = [f"cpu={self.cpu_millis / 1000:g}", f"mem={format_bytes(self.memory_bytes)}"]
        if self.gpus:
            parts.append(f"gpu={self.gpus}")
        return ",".join(parts)


#: What an instance of a session takes when neither the session nor the cluster says.
UNIT = Resources(cpu_millis=1000, memory_bytes=GIB)


def format_bytes(count: int) -> str:
    """Write a number of bytes with the largest binary unit that divides it well: ``1.5g``."""
    for unit, size in (("t", 1024**4), ("g", GIB), ("m", 1024**2), ("k", 1024)):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)
