"""Volumes: directories of a node that an application's services may use, each under a name.

A location is a place on one of them, as a task names it: ``data/2024/part-7``.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from flame.model.errors import InvalidRequest

MAX_VOLUMES = 16
MAX_PATH = 1024  # bytes: of a volume's path, and of a location

_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,29}[a-z0-9])?", re.ASCII)


class Volume(NamedTuple):
    """A directory of the node: its name, its absolute path, and whether services may write to it."""

    name: str
    path: str
    writable: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that tells services where it is."""
        return "FLAME_VOLUME_" + self.name.upper().replace("-", "_")


def check_volumes(volumes: Iterable[Volume]) -> tuple[Volume, ...]:
    """Return the volumes if an application may name them.

    Raises:
        InvalidRequest: There are too many, two have one name, or a name or path is malformed.
    """
    found = tuple(volumes)
    if len(found) > MAX_VOLUMES:
        raise InvalidRequest(f"volumes: there are {len(found)}; at most {MAX_VOLUMES} are allowed")
    variables = [volume.variable for volume in found]
    for volume in found:
        if not _NAME.fullmatch(volume.name):
            raise InvalidRequest(
                f"volumes: {volume.name!r} cannot name one: 1 to 31 of a-z, 0-9, '-' and '_' are "
                "allowed, the first a letter, the last a letter or digit"
            )
        if variables.count(volume.variable) > 1:
            raise InvalidRequest(f"volumes: {volume.name} is there twice (as {volume.variable})")
        if not volume.path.startswith("/") or not _is_text(volume.path):
            raise InvalidRequest(
                f"volumes: the path of {volume.name} is {volume.path!r}; an absolute path of at "
                f"most {MAX_PATH} bytes is needed"
            )
    return found


def check_location(location: str, what: str) -> str:
    """Return the location if it may be one; empty: there is none.

    Raises:
        InvalidRequest: It is not volume/relative/path, or leads out of its volume.
    """
    if not location:
        return location
    name, *parts = location.split("/")
    if not _NAME.fullmatch(name) or not _is_text(location) or {"", ".", ".."} & set(parts):
        raise InvalidRequest(
            f"{what} is {location!r}; the name of a volume and a path on it are needed, as in "
            f"data/2024/part-7, without '.', '..' or empty parts, at most {MAX_PATH} bytes"
        )
    return location


def _is_text(path: str) -> bool:
    try:
        return len(path.encode()) <= MAX_PATH and "\0" not in path
    except UnicodeEncodeError:
        return False
