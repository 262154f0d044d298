"""From an archive that anybody may have made to a directory: nothing leaves it, nothing is too much.

Files and directories are made first, with modes of our own (no set-user-id, nothing for others to
write), and symbolic links last, when all they could lead to is known. Whatever is neither of these
three, or leads outside, refuses the whole package.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flame.executor_manager.packages import BadPackage
from flame.runtime.archives import (
    CHUNK,
    MAX_BYTES,
    MAX_ENTRIES,
    BadArchive,
    Entry,
    bounded_memory,
    reading,
)

__all__ = ["MAX_BYTES", "MAX_ENTRIES", "unpack"]


def unpack(
    archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Unpack a tar archive, compressed or not, or a zip, into a directory that does not exist.

    Raises:
        BadPackage: It is no archive, is damaged, leads out of its directory, or is too large.
    """
    try:
        with (
            bounded_memory(),
            reading(archive, max_bytes=max_bytes, max_entries=max_entries) as entries,
        ):
            _write(entries, target)
    except BadArchive as error:
        raise BadPackage(str(error)) from error


def _write(entries: Iterator[Entry], target: Path) -> None:
    target.mkdir(mode=0o755)
    links: dict[str, str] = {}
    for entry in entries:
        place = target / entry.path
        if entry.link is not None:
            links[entry.path] = entry.link
        elif entry.content is not None:
            _make(place, entry, entry.content())
        elif entry.copy_of is not None:
            _make(place, entry, _content(target / entry.copy_of))
        else:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path, link in links.items():
        (target / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.symlink(link, target / path)
    root = os.path.realpath(target)
    for path in links:  # a link may lead through other links
        if not f"{os.path.realpath(target / path)}/".startswith(f"{root}/"):
            raise BadPackage(f"the package's link {path!r} leads out of the package")


def _content(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while data := content.read(CHUNK):
            yield data


def _make(place: Path, entry: Entry, content: Iterable[bytes]) -> None:
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode = 0o755 if entry.executable else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(place, flags, mode), "wb") as out:
        for data in content:
            out.write(data)
