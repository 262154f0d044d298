"""A write of the store finds no space. Crashes are R4 and R5 of tests/chaos."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from flame.model.errors import ResourceExhausted
from flame.storage.sqlite import SqliteStore
from flame.testing.disk import FaultyDisk
from tests.storage.crashes import group, groups_in, is_sync


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


def test_a_write_without_space_stores_nothing_of_its_group(path: Path) -> None:
    """Wherever in the group; the next commit goes through, and nothing is missing."""
    disk = FaultyDisk()
    countdown = refused = 0

    def before(kind: str, file: str) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and kind == "write" and file == "wal":
            raise apsw.FullError("no space on the test's disk")

    with closing(SqliteStore(path, vfs=disk.vfs_name)) as store:
        store.load()
        disk.before = before
        for number in range(1, 41):
            countdown = 1 + number % 6
            try:
                store.commit(group(number), sync=is_sync(number))
            except ResourceExhausted:
                refused += 1
                countdown = 0
                store.commit(group(number), sync=is_sync(number))
        assert refused > 10
    assert groups_in(path) == 40
