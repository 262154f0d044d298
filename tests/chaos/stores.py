"""Experiments with the store alone, on a simulated disk: R4, R5, R9. No process runs.

What counts as acknowledged here is what a commit returned for; every store is opened, read whole, and
written to again.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from flame.model.errors import WrongState
from flame.storage.sqlite import SqliteStore, tail
from flame.storage.sqlite.schema import PAGE_SIZE
from flame.storage.store import CorruptStore
from flame.testing.disk import FaultyDisk
from tests.chaos.experiment import Experiment, Failed
from tests.storage.crashes import crashes, group, groups_in


def r4(x: Experiment) -> None:
    """The process dies at every write, sync, cut and deletion of the store."""
    path = _directory(x) / "flame.db"
    for number, crash in enumerate(crashes(path, FaultyDisk.after_kill, x.amount(120, 8))):
        if not x.has_time:
            break
        crash.put(path)
        there = _groups(path, f"operation {number}")
        x.fault("death at an operation of the store")
        if there not in (crash.acknowledged, crash.acknowledged + 1):
            raise Failed(f"operation {number}: {crash.acknowledged} acknowledged, {there} there")
        x.report.verdict.acknowledged += crash.acknowledged


def r5(x: Experiment) -> None:
    """The power goes at every operation; of what was not synced, luck decides."""
    directory = _directory(x)
    path, boot = directory / "flame.db", directory / "boot"
    lost = 0
    with _boots(boot):
        for run in range(x.amount(4, 1)):
            dice = Random(x.random.getrandbits(32))
            found = crashes(
                path,
                lambda disk: disk.after_power_loss(dice),  # noqa: B023
                x.amount(60, 8),
            )
            for number, crash in enumerate(found):
                if not x.has_time:
                    break
                crash.put(path)
                boot.write_text(f"{run:016x}{number:016x}")
                there = _groups(path, f"run {run}, operation {number}")
                x.fault("loss of power")
                if not crash.synced <= there <= crash.acknowledged + 1:
                    raise Failed(f"operation {number}: {crash.synced} synced, {there} there")
                x.report.verdict.acknowledged += crash.synced
                lost += there < crash.acknowledged
            _remove(path)
    x.report.notes.append(f"{lost} times something that was not synced was lost, as it may be")


def r9(x: Experiment) -> None:
    """Bits flip and ends are cut off, anywhere; the version is another."""
    directory = _directory(x)
    path, boot = directory / "flame.db", directory / "boot"
    groups = 60
    with closing(SqliteStore(path)) as store:
        store.load()
        for number in range(1, groups + 1):
            store.commit(group(number), sync=True)
        killed = _files(path)
    closed = _files(path)
    harmless = 0
    with _boots(boot):
        for number in range(x.amount(3_000, 150)):
            if not x.has_time:
                break
            good, after_reboot = x.random.choice(((closed, False), (killed, False), (killed, True)))
            boot.write_text("f" * 32 if not after_reboot else f"{number:032x}")
            files = dict(good)
            kind = _damage(files, path, x.random)
            _put(files, path)
            x.fault(kind + (", killed" if good is killed else "") + ", rebooted" * after_reboot)
            try:
                there = groups_in(path)
            except (CorruptStore, WrongState) as error:
                if "flame.db" not in str(error):
                    raise Failed(f"{kind}: the error names no file: {error}") from error
                continue
            except Exception as error:
                raise Failed(f"{kind}: {error!r}") from error
            if there != groups:
                raise Failed(f"{kind}: {there} groups of {groups}, in silence")
            harmless += 1
            x.report.verdict.acknowledged += groups
    x.report.notes.append(f"{harmless} times nothing that is in use was touched")


def _directory(x: Experiment) -> Path:
    """Return one in memory, if there is: what is synced is the simulated disk's business."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="flame-chaos-", dir=memory if memory.is_dir() else x.directory)
    x.resources.callback(shutil.rmtree, made)
    return Path(made)


def _damage(files: dict[Path, bytes], path: Path, dice: Random) -> str:
    log = Path(f"{path}-wal")
    file = log if log in files and dice.random() < 0.6 else path
    content = bytearray(files[file])
    kind = dice.choice(("flip", "flip", "flip in a page's head", "cut", "version"))
    name = "log" if file == log else "database"
    if kind == "cut":
        del content[dice.randrange(len(content)) :]
    elif kind == "version":
        file, name = path, "database"
        content = bytearray(files[path])
        content[60:64] = dice.choice((99, 1 << 31)).to_bytes(4, "big")
    else:
        at = dice.randrange(len(content))
        if kind != "flip":
            at = at - at % PAGE_SIZE + dice.randrange(140)
        content[min(at, len(content) - 1)] ^= 1 << dice.randrange(8)
    files[file] = bytes(content)
    return f"{kind}, {name}"


def _groups(path: Path, where: str) -> int:
    try:
        return groups_in(path)
    except Exception as error:  # whatever it is, it must be known where
        raise Failed(f"{where}: {error!r}") from error


_SUFFIXES = ("", "-wal", ".tail")


def _files(path: Path) -> dict[Path, bytes]:
    files = [Path(f"{path}{suffix}") for suffix in _SUFFIXES]
    return {file: file.read_bytes() for file in files if file.exists()}


def _remove(path: Path) -> None:
    for suffix in (*_SUFFIXES, "-shm", ".lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _put(files: dict[Path, bytes], path: Path) -> None:
    _remove(path)
    for file, content in files.items():
        file.write_bytes(content)


@contextmanager
def _boots(file: Path) -> Iterator[None]:
    """Let a file say which boot this is."""
    real = tail._BOOT_ID
    file.write_text("f" * 32 + os.linesep)
    tail._BOOT_ID = file
    try:
        yield
    finally:
        tail._BOOT_ID = real
