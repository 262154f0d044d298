"""A crash at every write, sync, cut and deletion of the store: what was acknowledged is there."""

from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from flame.model.errors import ResourceExhausted
from flame.storage.sqlite import SqliteStore, tail
from flame.testing.disk import FaultyDisk
from tests.storage.crashes import crashes, group, groups_in, is_sync

GROUPS = 10  # `make chaos` takes more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


def test_a_kill_at_any_operation_loses_nothing_that_was_acknowledged(path: Path) -> None:
    found = list(crashes(path, FaultyDisk.after_kill, GROUPS))
    assert len(found) > 60
    for crash in found:
        crash.put(path)
        assert groups_in(path) in (crash.acknowledged, crash.acknowledged + 1)


def test_a_loss_of_power_at_any_operation_loses_nothing_that_was_synced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice, boot = Random(7), tmp_path / "boot"
    boot.write_text("f" * 32)
    monkeypatch.setattr(tail, "_BOOT_ID", boot)
    lost = 0
    for number, crash in enumerate(crashes(path, lambda disk: disk.after_power_loss(dice), GROUPS)):
        crash.put(path)
        boot.write_text(f"{number:032x}")
        there = groups_in(path)
        assert crash.synced <= there <= crash.acknowledged + 1
        lost += there < crash.acknowledged
    assert lost  # or the simulated disk is too kind


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
