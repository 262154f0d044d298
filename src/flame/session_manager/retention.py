"""Which closed sessions leave: those closed too long ago, and the oldest of too many."""

from collections.abc import Iterable
from dataclasses import dataclass

from flame.core.session import Session
from flame.model.specs import SessionState


@dataclass(frozen=True, slots=True)
class Retention:
    """How long closed sessions stay; None: as long as nobody deletes them.

    Attributes:
        hours: So long after they were closed.
        count: So many of them, of all tenants together; the last ones closed.
    """

    hours: int | None = None
    count: int | None = None

    def leaving(self, sessions: Iterable[Session], now_ms: int) -> list[Session]:
        """Return the sessions to delete, those closed first first.

        One of which a client is still taking outcomes stays until it has them.
        """
        if self.hours is None and self.count is None:
            return []
        closed = sorted(
            (session.closed_ms or 0, session.number, session)
            for session in sessions
            if session.state is SessionState.CLOSED
        )
        too_many = 0 if self.count is None else max(len(closed) - self.count, 0)
        before_ms = 0 if self.hours is None else now_ms - self.hours * 3_600_000
        return [
            session
            for index, (closed_ms, _, session) in enumerate(closed)
            if (index < too_many or closed_ms < before_ms)
            and all(attachment.told_closed for attachment in session.attachments.values())
        ]
