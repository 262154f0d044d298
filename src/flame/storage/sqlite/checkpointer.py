"""Copying the write-ahead log into the database, beside the commits.

A checkpoint of 16 MiB takes tens of milliseconds, which no commit should wait for: so a thread with a
connection of its own does it, and commits go on appending to the log meanwhile. The log starts over
once everything in it is copied. Under a load without a pause that moment never comes by itself. So
from half of ``MOST_PAGES`` on the thread follows every commit, and a commit that reaches
``MOST_PAGES`` waits for it and copies the rest itself: mostly few pages are left then, and where the
disk cannot follow, commits must wait somewhere.
"""

import logging
import threading

import apsw

CHECKPOINT_PAGES = 2048  # 16 MiB
MOST_PAGES = 16384  # 128 MiB

log = logging.getLogger(__name__)


class Checkpointer:
    """A thread that checkpoints when it is told that the log has grown."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._wanted = threading.Event()
        self._closing = False
        self._copied = 0  # pages of the log
        self._at_it = threading.Lock()
        # Until it has read something, a connection does not know of the log, and copies nothing.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self._thread = threading.Thread(target=self._run, name="sqlite-checkpoint", daemon=True)
        self._thread.start()

    def after_commit(self, writer: apsw.Connection, database: str, pages: int) -> int:
        """SQLite calls this in the committing thread, with the length of the log."""
        if pages >= MOST_PAGES:
            self._checkpoint(writer)
        if pages < self._copied:
            self._copied = 0  # the log has started over
        if pages - self._copied >= CHECKPOINT_PAGES or pages >= MOST_PAGES // 2:
            self._wanted.set()
        return apsw.SQLITE_OK

    def close(self) -> None:
        """Finish what is under way. The connection can be closed then."""
        self._closing = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            self._checkpoint(self._connection)

    def _checkpoint(self, connection: apsw.Connection) -> None:
        # Passive: it never waits for a reader, least of all one in another program.
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE
        try:
            with self._at_it:
                _, self._copied = connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            pass  # another program is at it
        except apsw.Error as error:
            # Nothing is lost: the pages are in the log. A full disk is the likely reason, and
            # commits will say so themselves.
            log.warning("checkpoint-failed file=%s error=%s", connection.filename, error)
