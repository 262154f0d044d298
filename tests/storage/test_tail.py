"""The end of SQLite's write-ahead log: lost by damage, it is missed; lost in order, it is not."""

from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from flame.storage.sqlite import SqliteStore, checkpointer, tail
from flame.storage.store import CorruptStore
from tests.storage.records import S1, read, session_put, submitted

FRAME = 24 + 8192
HEADER = 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


def killed(path: Path, tasks: int = 20, synced: int = 0) -> dict[Path, bytes]:
    """Leave the files of a process that was killed; returns them, to put them there again."""
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put()], sync=False)
        for task_id in range(1, tasks + 1):
            store.commit([submitted(task_id, b"input")], sync=task_id == synced)
        files = {
            file: file.read_bytes() for file in (path, Path(f"{path}-wal"), Path(f"{path}.tail"))
        }
    put(files)
    return files


def put(files: dict[Path, bytes]) -> None:
    for file, content in files.items():
        file.write_bytes(content)


def tasks_in(path: Path) -> int:
    with closing(SqliteStore(path)) as store:
        return len(read(store.load()).pending.get(S1, []))


def test_a_whole_log_is_read_to_its_end(path: Path) -> None:
    killed(path)
    assert tasks_in(path) == 20
    assert tasks_in(path) == 20  # and again, after it was closed in order


def test_a_flipped_bit_anywhere_in_the_log_is_found(path: Path) -> None:
    files = killed(path)
    log = Path(f"{path}-wal")
    good = files[log]
    random = Random(20261123)
    places = [*range(HEADER), *(random.randrange(HEADER, len(good)) for _ in range(80))]
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1 << random.randrange(8)
        put({**files, log: bytes(bad)})
        for _ in range(2):  # being refused once changes nothing
            with pytest.raises(CorruptStore, match=r"flame\.db-wal ends after .*flame\.db\.tail"):
                SqliteStore(path)


def test_a_log_that_is_cut_is_found(path: Path) -> None:
    files = killed(path)
    log = Path(f"{path}-wal")
    good = files[log]
    for length in (len(good) - 1, len(good) - FRAME, HEADER + FRAME, HEADER):
        put({**files, log: good[:length]})
        with pytest.raises(CorruptStore, match="acknowledged are lost"):
            SqliteStore(path)


def test_without_the_tails_file_a_damaged_log_is_read_as_far_as_it_goes(path: Path) -> None:
    """As the error's text says, for who has no backup."""
    files = killed(path)
    log = Path(f"{path}-wal")
    put({**files, log: files[log][:-1]})
    Path(f"{path}.tail").unlink()
    assert tasks_in(path) == 19


def test_a_log_that_another_program_has_copied_and_removed_is_not_missed(path: Path) -> None:
    killed(path)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    assert not Path(f"{path}-wal").exists()
    assert tasks_in(path) == 20


def test_a_log_that_was_copied_and_has_started_over_is_not_missed(path: Path) -> None:
    killed(path)
    with closing(apsw.Connection(str(path))) as other:
        other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        other.execute("UPDATE sessions SET state = state")
    assert tasks_in(path) == 20


def test_after_another_boot_the_part_that_was_synced_must_be_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = killed(path, synced=12)
    log = Path(f"{path}-wal")
    boot = tmp_path / "boot_id"
    boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(tail, "_BOOT_ID", boot)
    damaged = bytearray(files[log])
    damaged[HEADER + FRAME * 3] ^= 1
    put({**files, log: bytes(damaged)})
    with pytest.raises(CorruptStore, match="acknowledged are lost"):
        SqliteStore(path)
    put({**files, log: files[log][: -3 * FRAME]})  # and the rest need not
    assert 12 <= tasks_in(path) < 20


def test_after_another_boot_what_was_not_synced_is_not_compared(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loss of power takes what was not synced, from the log as from the file beside it."""
    files = killed(path)
    log = Path(f"{path}-wal")
    put({**files, log: files[log][: -3 * FRAME]})
    boot = tmp_path / "boot_id"
    boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(tail, "_BOOT_ID", boot)
    assert 15 < tasks_in(path) < 20


def test_a_tails_file_that_is_damaged_itself_says_nothing(path: Path) -> None:
    files = killed(path)
    beside = Path(f"{path}.tail")
    for content in (b"", b"short", bytes(32), b"\xff" * 32, files[beside][:-1] + b"?"):
        put({**files, beside: content})
        assert tasks_in(path) == 20


def test_no_commit_is_missed_while_the_log_starts_over_again_and_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(checkpointer, "MOST_PAGES", 40)
    copies: list[tuple[int, dict[str, bytes]]] = []
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put()], sync=False)
        for task_id in range(1, 400):
            store.commit([submitted(task_id, bytes(3_000))], sync=False)
            if task_id % 9 == 0:
                # Like a kill: the database last, or the checkpoint's thread may be ahead of it.
                with store._checkpointer._at_it:  # type: ignore[union-attr]
                    suffixes = ("-wal", ".tail", "")
                    copies.append((task_id, {s: Path(f"{path}{s}").read_bytes() for s in suffixes}))
    for task_id, files in copies:
        put({Path(f"{path}{suffix}"): content for suffix, content in files.items()})
        assert tasks_in(path) == task_id
