"""Where a release is, and what its service finds in its environment because of it."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flame.model.packages import PYTHON

Pairs = tuple[tuple[str, str], ...]


class Place(msgspec.Struct, frozen=True):
    """A release, as an executor sees it.

    Attributes:
        url: What it was made of.
        installer: How.
        directory: What the archive holds; services find it in FLAME_APP_DIR.
        python: The interpreter of the package's environment; empty: there is none.
        paths: Directories to look for programs in, before all others.
        libraries: Directories to look for shared libraries in, before all others.
    """

    url: str
    installer: str
    directory: str
    python: str
    paths: list[str]
    libraries: list[str]

    @property
    def release(self) -> str:
        """The directory with all of it."""
        return os.path.dirname(self.directory)

    def surround(self, environments: Pairs) -> Pairs:
        """Return an application's variables with what the release adds to them."""
        given = dict(environments)
        added = {"FLAME_APP_DIR": self.directory}
        if self.python:
            added["VIRTUAL_ENV"] = str(Path(self.python).parents[1])
        for name, ours in (("PATH", self.paths), ("LD_LIBRARY_PATH", self.libraries)):
            if ours:
                added[name] = _before(ours, given.get(name, os.environ.get(name, "")))
        return (*(pair for pair in environments if pair[0] not in added), *added.items())


def place_of(release: Path, url: str, installer: str) -> Place:
    """Describe a release that is complete."""
    source = release / "src"
    if installer == PYTHON:
        scripts = release / "env" / "bin"
        return Place(url, installer, str(source), str(scripts / "python"), [str(scripts)], [])
    libraries = [str(source / name) for name in ("lib", "lib64") if (source / name).is_dir()]
    return Place(url, installer, str(source), "", [str(source / "bin"), str(source)], libraries)


def _before(ours: Sequence[str], theirs: str) -> str:
    return os.pathsep.join([*ours, *filter(None, [theirs])])
