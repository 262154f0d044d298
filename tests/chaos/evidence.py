"""What a run leaves behind for the checker: the client's log, and a dump of the store."""

import json
import sqlite3
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg

import flame
from flame.model.errors import TaskError
from flame.model.ids import SessionNumber
from flame.model.specs import EventCode, TaskState
from flame.storage import rows
from flame.storage.open import open_store, sqlite_path
from tests.chaos.services import transform

#: Ends that an experiment may allow a task besides success: code, and what its reason must contain.
Allowed = dict[int, str]

SMALL = 1024  # bytes

CANCELLED: Allowed = {int(EventCode.CANCELLED): ""}
TIMED_OUT: Allowed = {int(EventCode.TIMED_OUT): ""}
PAST_DEADLINE: Allowed = {int(EventCode.DEADLINE_PASSED): ""}


def lost_because(text: str) -> Allowed:
    """The task may lose its executor, for this reason."""
    return {int(EventCode.LOST): text}


def show(data: bytes | None) -> str | None:
    """Return data as evidence has it: all of it, or the hash of what is large."""
    if data is None or len(data) <= SMALL:
        return None if data is None else data.hex()
    return f"{len(data)} bytes, sha256 {sha256(data).hexdigest()}"


class Entry:
    """One task in the client's log."""

    expected: Callable[[bytes], bytes] = staticmethod(transform)

    __slots__ = ("allowed", "future", "input", "must_fail", "outcomes", "session")

    def __init__(
        self, session: int, value: bytes, future: flame.Future, allowed: Allowed, must_fail: bool
    ) -> None:
        self.session = session
        self.input = value
        self.future = future
        self.allowed = allowed
        self.must_fail = must_fail
        self.outcomes: list[tuple[int, int, str | None, str]] = []

    def line(self) -> dict[str, Any]:
        """Return it as it is written down."""
        return {
            "session": self.session,
            "task": self.future.task_id,
            "input": show(self.input),
            "expected": show(self.expected(self.input)),
            "allowed": self.allowed,
            "must_fail": self.must_fail,
            "outcomes": self.outcomes,
        }


class ClientLog:
    """Every task that the experiment's clients submitted."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.ended = 0  # outcomes that were told
        self._changed = threading.Condition()

    def run(
        self,
        session: flame.Session,
        value: bytes,
        allowed: Allowed | None = None,
        *,
        must_fail: bool = False,
    ) -> Entry:
        """Submit a task and write down what becomes of it."""
        entry = Entry(session.number, value, session.run(value), allowed or {}, must_fail)
        self.entries.append(entry)
        entry.future.add_done_callback(lambda future: self._done(entry, future))
        return entry

    def _done(self, entry: Entry, future: flame.Future) -> None:
        error = future.exception()
        if error is None:
            told = show(future.result())
            entry.outcomes.append((int(TaskState.SUCCEEDED), 0, told, ""))
        else:
            state = TaskState.CANCELLED if future.cancelled() else TaskState.FAILED
            code = error.code if isinstance(error, TaskError) else -1
            entry.outcomes.append((int(state), code, None, str(error)))
        self.ended += 1

    def unfinished(self) -> list[Entry]:
        """Return the tasks without an outcome."""
        return [entry for entry in self.entries if not entry.outcomes]

    def write(self, path: Path) -> None:
        """Write it down for the checker."""
        with path.open("w") as file:
            for entry in self.entries:
                file.write(json.dumps(entry.line()) + "\n")


def dump_store(storage: str, directory: Path, sessions: list[int]) -> None:
    """Write down what the store of a stopped cluster has of these sessions."""
    store = open_store(storage)
    try:
        store.load()
        with (directory / "store.jsonl").open("w") as file:
            for session in sessions:
                after = 0
                while page := store.tasks(SessionNumber(session), after, 1000):
                    after = page[-1].task_id
                    for task in page:
                        line = {
                            "session": session,
                            "task": task.task_id,
                            "input": show(task.input),
                            "state": int(task.state),
                            "code": task.failure[1] if task.failure else 0,
                            "output": show(task.output),
                        }
                        file.write(json.dumps(line) + "\n")
        with (directory / "log.jsonl").open("w") as file:
            for session in sessions:
                position = 0
                while batch := store.outcomes(SessionNumber(session), position, 1 << 20):
                    logged = {
                        "session": session,
                        "position": batch.first_position,
                        "tasks": list(batch.task_ids),
                    }
                    file.write(json.dumps(logged) + "\n")
                    position = batch.first_position + len(batch.task_ids)
    finally:
        store.close()
    _dump_losses(storage, directory / "losses.jsonl")


def _dump_losses(storage: str, path: Path) -> None:
    query = "SELECT session, check_sum, loss FROM {}lease_losses"
    found: list[tuple[Any, ...]]
    if storage.startswith("sqlite://"):
        with sqlite3.connect(sqlite_path(storage)) as database:
            found = list(database.execute(query.format("")))
    else:
        with psycopg.connect(storage) as server:
            found = list(server.execute(query.format("flame.").encode()))
    with path.open("w") as file:
        for session, check, blob in found:
            lost = rows.unseal(rows.lost, blob, check, "lease_losses", session)
            line = {"session": session, "tasks": lost.task_ids, "cause": lost.cause}
            file.write(json.dumps(line) + "\n")
