"""Which closed sessions leave, and that they do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from flame.core import events
from flame.core.backlog import Backlog
from flame.core.session import Session
from flame.model.ids import SessionNumber, Tenant
from flame.model.specs import ApplicationSpec, SessionSpec, SessionState
from flame.model.unnamed import content_name
from flame.session_manager.retention import Retention
from flame.session_manager.shell import Shell
from flame.storage.sqlite import SqliteStore

TENANT = Tenant("acme")
HOUR = 3_600_000


def session(number: int, closed_ms: int | None) -> Session:
    made = Session(
        SessionNumber(number), TENANT, f"s{number}", SessionSpec("a"), 0, Backlog(TENANT)
    )
    made.closed_ms = closed_ms
    made.state = SessionState.OPEN if closed_ms is None else SessionState.CLOSED
    return made


SESSIONS = [session(1, 5 * HOUR), session(2, None), session(3, 1 * HOUR), session(4, 3 * HOUR)]


@pytest.mark.parametrize(
    ("retention", "leaving"),
    [
        (Retention(), []),
        (Retention(hours=10), []),
        (Retention(hours=3), [3]),
        (Retention(hours=0), [3, 4, 1]),
        (Retention(count=3), []),
        (Retention(count=1), [3, 4]),
        (Retention(count=0), [3, 4, 1]),
        (Retention(hours=3, count=1), [3, 4]),
    ],
)
def test_those_closed_too_long_ago_leave_and_the_oldest_of_too_many(
    retention: Retention, leaving: list[int]
) -> None:
    assert [s.number for s in retention.leaving(SESSIONS, 6 * HOUR)] == leaving


@asynccontextmanager
async def running(path: Path, retention: Retention) -> AsyncIterator[Shell]:
    shell = Shell(store=SqliteStore(path), token="token", retention=retention)
    await shell.start()
    try:
        yield shell
    finally:
        await shell.stop()


async def test_with_the_last_of_them_leaves_an_application_that_nobody_named(
    tmp_path: Path,
) -> None:
    name = content_name("Adder", b"pickle", b"")
    spec = ApplicationSpec(pickled_service=b"pickle")
    async with running(tmp_path / "flame.db", Retention(count=0)) as shell:
        await shell.calls.call(partial(events.RegisterApplication, TENANT, name, spec))
        await shell.calls.call(partial(events.CreateSession, TENANT, "s", SessionSpec(name)))
        await shell.calls.call(partial(events.CloseSession, TENANT, "s", False))
        deadline = shell.clock() + 20
        while shell.calls.applications(TENANT):
            assert shell.clock() < deadline
            await asyncio.sleep(0.05)
    async with running(tmp_path / "flame.db", Retention()) as shell:  # nor is it stored
        assert shell.calls.applications(TENANT) == []


async def test_closed_sessions_leave_a_running_session_manager(tmp_path: Path) -> None:
    async with running(tmp_path / "flame.db", Retention(count=1)) as shell:
        await shell.calls.call(partial(events.RegisterApplication, TENANT, "a", ApplicationSpec()))
        for name in ("one", "two", "three"):
            create = partial(events.CreateSession, TENANT, name, SessionSpec("a"))
            await shell.calls.call(create)
        for name in ("one", "two"):
            await shell.calls.call(partial(events.CloseSession, TENANT, name, False))
        deadline = shell.clock() + 20
        while len(shell.calls.sessions(TENANT)) > 2:
            assert shell.clock() < deadline
            await asyncio.sleep(0.05)
        assert sorted(view.name for view in shell.calls.sessions(TENANT)) == ["three", "two"]
