"""A disk that remembers what was synced, and what a crash leaves of the rest.

    disk = FaultyDisk()
    store = SqliteStore(path, vfs=disk.vfs_name)
    ...
    put(disk.after_power_loss(random))    # or after_kill(): the system's cache survives that

A loss of power keeps what was synced; of every later write it keeps all, nothing, or some sectors. The
files themselves hold what the running process sees.
"""

import threading
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512  # bytes that are written wholly or not at all
_BASE = "unix"
_numbers = count(1)

#: A write (offset and bytes), or a cut of the file to a size.
_Change = tuple[int, bytes] | int


class _Record:
    """One file: what is on the disk, and the changes that may or may not be."""

    def __init__(self, content: bytes) -> None:
        self.synced = content
        self.changes: list[_Change] = []

    def sync(self) -> None:
        self.synced = _changed(self.synced, self.changes)
        self.changes = []


class FaultyDisk(apsw.VFS):
    """The operating system's files, every change of which is known.

    Attributes:
        before: Called before each write, sync, cut and deletion, with its name and file's suffix;
            what it raises is what SQLite gets to hear.
    """

    def __init__(self) -> None:
        self.vfs_name = f"flame-faulty-disk-{next(_numbers)}"
        self.before: Callable[[str, str], None] = lambda kind, file: None
        self._records: dict[str, _Record] = {}
        self._lock = threading.RLock()
        super().__init__(self.vfs_name, _BASE)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile(_BASE, name, flags)
        with self._lock:
            if path not in self._records:
                found = Path(path)
                self._records[path] = _Record(found.read_bytes() if found.exists() else b"")
        return _File(self, path, name, flags)

    def xDelete(self, path: str, sync: bool) -> None:
        with self._lock:
            self.before("delete", _suffix(path))
            super().xDelete(path, sync)
            self._records.pop(path, None)

    def after_kill(self) -> dict[Path, bytes]:
        """Return the files as the death of the process leaves them."""
        with self._lock:
            return {Path(p): _changed(r.synced, r.changes) for p, r in self._records.items()}

    def after_power_loss(self, dice: Random) -> dict[Path, bytes]:
        """Return the files as a loss of power may leave them."""
        with self._lock:
            return {Path(p): _torn(r, dice) for p, r in self._records.items()}

    def _change(self, path: str, kind: str, change: _Change | None) -> None:
        self.before(kind, _suffix(path))
        record = self._records[path]
        if change is None:
            record.sync()
        else:
            record.changes.append(change)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, path: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        super().__init__(_BASE, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        with self._disk._lock:
            self._disk._change(self._path, "write", (offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        with self._disk._lock:
            self._disk._change(self._path, "cut", size)
            super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        with self._disk._lock:
            self._disk._change(self._path, "sync", None)


def put(files: Mapping[Path, bytes], database: Path) -> None:
    """Leave these files, and no others, of a database."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = Path(f"{database}{suffix}")
        if path in files:
            path.write_bytes(files[path])
        else:
            path.unlink(missing_ok=True)


def _suffix(path: str) -> str:
    return "wal" if path.endswith("-wal") else "journal" if path.endswith("-journal") else "db"


def _changed(content: bytes, changes: list[_Change]) -> bytes:
    out = bytearray(content)
    for change in changes:
        if isinstance(change, int):
            del out[change:]
            continue
        offset, data = change
        if len(out) < offset:
            out += bytes(offset - len(out))
        out[offset : offset + len(data)] = data
    return bytes(out)


def _torn(record: _Record, dice: Random) -> bytes:
    """Return what was synced, and of the rest what luck lets reach the disk."""
    luck = dice.choice((0.0, 0.5, 0.9, 1.0))
    kept: list[_Change] = []
    for change in record.changes:
        if dice.random() < luck:
            kept.append(change)
        elif not isinstance(change, int) and dice.random() < 0.3:
            offset, data = change
            for start in range(-(offset % SECTOR), len(data), SECTOR):
                low, high = max(start, 0), start + SECTOR
                if dice.random() < 0.5:
                    kept.append((offset + low, data[low:high]))
    return _changed(record.synced, kept)
