"""What a session manager brings along to lead a store that several share."""

from dataclasses import dataclass

LEASE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Candidacy:
    """How to lead, and whether to wait for it.

    Attributes:
        address: Where its clients find it, told to whoever asks one that waits; may be empty.
        lease_seconds: For so long after its last renewal nobody else leads: what a take-over from a
            leader that is stopped or cut off takes, at most.
        standby: Wait while somebody else leads. One that waits also takes the database's absence for
            something that ends.
    """

    address: str = ""
    lease_seconds: float = LEASE_SECONDS
    standby: bool = False
