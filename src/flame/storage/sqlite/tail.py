"""Noticing that the end of the write-ahead log is lost.

SQLite reads the log up to the first frame whose check sum is wrong and takes that for its end: it cannot
tell a damaged frame from one that was never finished. So a flipped bit loses every later commit, in
silence. A small file beside the database knows better: after each commit it is told how far the log goes.

    <database>.tail = boot id (16 bytes) │ the log's salts (8) │ its frames (4) │ synced (4) │ crc32 (4)

It is written without a sync: less than a microsecond, and as safe from the death of the process as the
log itself. A loss of power may take the log's end without any damage; that is why the boot is recorded,
and after another boot only that part must be there which was synced, to the disk, before this was
written. The salts change whenever the log starts over, which it does only when all of it is in the
database.
"""

import os
import struct
from pathlib import Path
from zlib import crc32

from flame.storage.store import CorruptStore

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_SIZE = 16
_RECORD = struct.Struct(">16s8sII")  # without its crc
_CRC = struct.Struct(">I")

_HEADER_SIZE = 32
_SALTS_AT, _SALTS_SIZE = 16, 8
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # and the byte order of the check sums


class Tail:
    """The file beside one open database.

    ``check`` is called before anything is written, ``note`` after each commit, ``end`` in close.

    Args:
        boot: The number of this boot of the machine; None: ask the system.
    """

    def __init__(self, database: Path, boot: bytes | None = None) -> None:
        self._path = Path(f"{database}.tail")
        self._log_path = Path(f"{database}-wal")
        self._boot = _boot_id() if boot is None else boot
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._log = -1
        self._salts = b""
        self._synced = 0

    def check(self, frames: int) -> None:
        """Compare with the log that SQLite found, of so many frames.

        Raises:
            CorruptStore: The log went further when the last commit was acknowledged.
        """
        stored = os.pread(self._file, _RECORD.size + _CRC.size, 0)
        if len(stored) < _RECORD.size + _CRC.size or not self._boot:
            return
        boot, salts, noted, synced = _RECORD.unpack_from(stored)
        (crc,) = _CRC.unpack_from(stored, _RECORD.size)
        if boot != self._boot:
            noted = synced
        if crc != crc32(stored[: _RECORD.size]) or frames >= noted:
            return
        try:
            with self._log_path.open("rb") as log:
                header = log.read(_HEADER_SIZE)
        except FileNotFoundError:
            return  # whoever closed the database last has copied it all
        if len(header) < _HEADER_SIZE:
            return  # the same
        whole = _is_whole(header)
        if whole and header[_SALTS_AT : _SALTS_AT + _SALTS_SIZE] != salts:
            return  # the log has started over
        raise CorruptStore(
            f"the log {self._log_path} ends after {frames} of its {noted} frames"
            f"{'' if whole else ' (its header is damaged)'}: commits that were acknowledged are lost,"
            f" as {self._path} shows. Nothing was changed. Restore a backup, or remove {self._path} to"
            " go on without those commits"
        )

    def note(self, frames: int, *, synced: bool) -> None:
        """The log goes so far now, and all of it is committed; ``synced``: and on the disk."""
        if self._log < 0:
            # The log stays the same file until the database is closed.
            self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
        salts = os.pread(self._log, _SALTS_SIZE, _SALTS_AT)
        if synced:
            self._salts, self._synced = salts, frames
        elif salts != self._salts:
            self._salts, self._synced = salts, 0
        self._write(salts, frames, self._synced)

    def end(self) -> None:
        """The log is about to be copied into the database, and removed."""
        if self._log >= 0:
            self._write(bytes(_SALTS_SIZE), 0, 0)

    def _write(self, salts: bytes, frames: int, synced: int) -> None:
        record = _RECORD.pack(self._boot, salts, frames, synced)
        os.pwrite(self._file, record + _CRC.pack(crc32(record)), 0)

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._file, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._log = -1


def _is_whole(header: bytes) -> bool:
    """Whether the log's header matches its check sum (https://sqlite.org/fileformat2.html#walformat)."""
    (magic,) = struct.unpack_from(">I", header)
    order = _MAGIC.get(magic)
    if order is None:
        return False
    first = second = 0
    words = struct.unpack_from(f"{order}6I", header)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.unpack_from(">2I", header, 24) == (first, second)


def _boot_id() -> bytes:
    """Return this boot's number, or nothing where the system does not tell."""
    try:
        text = _BOOT_ID.read_text("ascii").strip().replace("-", "")
        return bytes.fromhex(text)[:_BOOT_SIZE]
    except (OSError, ValueError):
        return b""
