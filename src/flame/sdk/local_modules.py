"""The caller's own modules, sent along with a service that needs them.

A module is *local* if executors cannot be expected to have it: it comes from a file outside the
standard library and site-packages. Sent are the local modules that the pickled service names, those
that its own source and the script import (inside functions too), and what these import, packages and
all. A module that is only found by a computed name, and files that are no modules, need a package
(``flmctl deploy``).
"""

import ast
import io
import os
import pickletools
import site
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: the same modules are the same bytes


@dataclass(frozen=True, slots=True)
class _Found:
    """A module's file (None for a namespace package), and where its submodules are."""

    file: Path | None
    locations: tuple[str, ...] | None


def is_installed(module: ModuleType) -> bool:
    """Whether executors can be expected to have the module: a package, or Flame itself."""
    if module.__name__.partition(".")[0] == "flame":
        return True
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.origin in ("built-in", "frozen"):
        return True
    file = getattr(module, "__file__", None)
    if file is None:
        return spec is not None  # a namespace package; without a spec, made by exec
    return _is_installed_file(file)


def local_modules(pickled: bytes, own: ModuleType | None) -> bytes:
    """Return a zip of the local modules that a pickled service needs; empty bytes if none.

    Args:
        pickled: The service.
        own: The module that defines it; it is in ``pickled`` itself.
    """
    strings = names_in(pickled)
    wanted = [name for name in strings if _is_local_and_loaded(name)]
    script = sys.modules.get("__main__") if "__main__" in strings else None
    for module in (own, script):  # what is in the pickle itself
        file = getattr(module, "__file__", None)
        if module is not None and file is not None and not _is_installed_file(file):
            wanted += _imports(Path(file), module.__name__, hasattr(module, "__path__"))
    files: dict[str, Path] = {}
    done: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        done.add(name)
        found = _find(name)
        if found is None:
            continue
        parent = name.rpartition(".")[0]
        if parent:
            wanted.append(parent)
        if found.file is not None:
            files[_path_in_zip(name, found)] = found.file
            wanted += _imports(found.file, name, found.locations is not None)
    return _zip(files) if files else b""


def names_in(pickled: bytes) -> set[str]:
    """All texts in a pickle; what it takes by reference has its module's name among them."""
    return {text for _, text, _ in pickletools.genops(pickled) if isinstance(text, str)}


def _is_local_and_loaded(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and name != "__main__" and not is_installed(module)


def _find(name: str) -> _Found | None:
    """Find a local module without importing it; None if it is installed, or nowhere."""
    if name.partition(".")[0] in ("flame", "__main__"):
        return None
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) if module is not None else _search(name)
    if spec is None:
        return None
    locations = spec.submodule_search_locations
    places = None if locations is None else tuple(locations)
    if spec.origin is not None and spec.has_location:
        return None if _is_installed_file(spec.origin) else _Found(Path(spec.origin), places)
    if places and not any(_is_installed_file(os.path.join(place, "")) for place in places):
        return _Found(None, places)
    return None


def _search(name: str) -> ModuleSpec | None:
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return PathFinder.find_spec(name)
        found = _find(parent)
        if found is None or found.locations is None:
            return None
        return PathFinder.find_spec(name, list(found.locations))
    except (ImportError, ValueError):  # a finder of somebody's has its own opinion
        return None


def _imports(file: Path, name: str, is_package: bool) -> list[str]:
    """Name what a source file imports, anywhere in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # an extension module, or no longer there
        return []
    package = name if is_package else name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            names.append(base)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return [each for each in names if each and not each.endswith(".*")]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _path_in_zip(name: str, found: _Found) -> str:
    file = found.file
    assert file is not None  # noqa: S101 - for the type checker; the caller has looked
    folder = name if found.locations is not None else name.rpartition(".")[0]
    return "/".join([*filter(None, folder.split(".")), file.name])


def _zip(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, file in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _FIRST_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def _is_installed_file(file: str) -> bool:
    path = os.path.abspath(file)
    if any(part in ("site-packages", "dist-packages") for part in path.split(os.sep)):
        return True
    return any(path.startswith(root + os.sep) for root in _roots())


def _roots() -> Iterator[str]:
    names: Iterable[str] = ("stdlib", "platstdlib", "purelib", "platlib")
    for root in (*map(sysconfig.get_path, names), site.getusersitepackages()):
        if root:
            yield os.path.abspath(root)
