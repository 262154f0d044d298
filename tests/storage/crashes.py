"""A small workload on a simulated disk, and a crash at each of its operations."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from flame.core.records import Record
from flame.storage.sqlite import SqliteStore, checkpointer
from flame.testing.disk import FaultyDisk, put
from tests.storage.records import S1, S2, deleted, read, recorded, session_put, submitted


def group(number: int) -> list[Record]:
    """Group n is task n and the outcome of task n - 1; half of it would show."""
    if number == 1:
        return [session_put(), session_put(S2), submitted(1, b"input 1")]
    size = 30_000 if number % 7 == 0 else 10
    records: list[Record] = [submitted(number, b"input %d" % number + bytes(size))]
    return [*records, recorded(number - 2, number - 1)]


def is_sync(number: int) -> bool:
    return number % 5 == 0


@dataclass(frozen=True, slots=True)
class Crash:
    """The files it left, and the last groups that were acknowledged, and synced, by then."""

    files: dict[Path, bytes]
    acknowledged: int
    synced: int

    def put(self, path: Path) -> None:
        """Leave its files."""
        put(self.files, path)
        Path(f"{path}.tail").write_bytes(self.files[Path(f"{path}.tail")])


def crashes(
    path: Path, files: Callable[[FaultyDisk], dict[Path, bytes]], groups: int
) -> Iterator[Crash]:
    """Commit so many groups; yield a crash before each write, sync, cut and deletion.

    Checkpoints come often, so that they, and a log that starts over, are among what is interrupted.
    """
    found: list[Crash] = []
    disk, beside = FaultyDisk(), Path(f"{path}.tail")
    acknowledged = synced = 0

    def before(kind: str, file: str) -> None:
        left = files(disk)
        left[beside] = beside.read_bytes()
        found.append(Crash(left, acknowledged, synced))

    disk.before = before
    with (
        mock.patch.object(checkpointer, "CHECKPOINT_PAGES", 12),
        mock.patch.object(checkpointer, "MOST_PAGES", 60),
        closing(SqliteStore(path, vfs=disk.vfs_name)) as store,
    ):
        store.load()
        for number in range(1, groups + 1):
            store.commit(group(number), sync=is_sync(number))
            acknowledged = number
            synced = number if is_sync(number) else synced
    yield from found


def groups_in(path: Path) -> int:
    """Return how many groups there are, all of them whole; then go on with that store."""
    with closing(SqliteStore(path)) as store:
        found = read(store.load())
        if not found.recovered.sessions:
            return 0
        last = int(found.recovered.sessions[0].next_task_id) - 1
        assert [p[0] for p in found.pending[S1]] == [last]
        assert found.recovered.sessions[0].log_end == last - 1
        tasks = store.tasks(S1, 0, 10_000)
        assert [task.task_id for task in tasks] == list(range(1, last + 1))
        assert all((task.input or b"").startswith(b"input %d" % task.task_id) for task in tasks)
        store.commit([recorded(last - 1, last), deleted(S2)], sync=True)
    return last
