"""Says when the session manager has not answered for a while, and when it does again.

Whoever waits for a task waits on, as is promised; this is so that they know. It goes to the log, once an
outage: the SDK prints nothing itself. The commands put it on stderr (``flame.cli.outages``).
"""

import asyncio
import logging

from flame.wire.managers import Managers

log = logging.getLogger(__name__)

#: Seconds. Whoever is started again, or followed by a standby, is back before.
PATIENCE = 5.0

GONE = "the session manager at %s does not answer; waiting for it"
BACK = "the session manager at %s answers again"
CLOSING = "session %r is being closed; waiting for the session manager at %s"
LEFT = (
    "session %r stays open and its tasks go on, as no session manager answers at %s; "
    "to close it: flmctl close -s %s --cancel-running"
)


class Outage:
    """The time from a connection that was lost to the next one.

    Attributes:
        began: When, on the loop's clock; None while there is a connection.
        is_told: Whether it has lasted so long that it was said.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, managers: Managers) -> None:
        self._loop = loop
        self._managers = managers
        self._timer: asyncio.TimerHandle | None = None
        self.began: float | None = None
        self.is_told = False

    def begins(self) -> None:
        """The connection is lost, or still is."""
        if self.began is None:
            self.began = self._loop.time()
            self._timer = self._loop.call_later(PATIENCE, self._tell)

    def ends(self) -> None:
        """There is a connection."""
        self.forget()
        self.began = None
        if self.is_told:
            self.is_told = False
            log.warning(BACK, self._managers.current)

    def forget(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self.is_told = True
        log.warning(GONE, self._managers)
