"""What ``flmctl deploy`` is about to do: from a path and options to an application and its package.

What is not said is found: the name in ``pyproject.toml``, the entry point under
``[project.entry-points."flame.service"]``, the program by being the only one. A directory may say it
all in an ``application.yaml``, in the form of ``flmctl register``; options count more.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flame.cli.application_files import read_applications
from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.ids import check_name
from flame.model.packages import PYTHON
from flame.model.specs import ApplicationSpec, ShimKind
from flame.sdk.packing import ARCHIVES, PackList, find_installer, is_archive, list_files

APPLICATION_FILE = "application.yaml"
ENTRY_POINTS = "flame.service"


@dataclass(frozen=True, slots=True)
class Deployment:
    """An application and what it is made of.

    Attributes:
        files: What is packed; None: ``path`` is an archive already.
    """

    name: str
    spec: ApplicationSpec
    path: Path
    files: PackList | None


def plan_deployment(
    path: Path,
    name: str | None,
    given: Mapping[str, Any],
    excludes: Iterable[str],
) -> Deployment:
    """Put together what the path says and what the options say.

    Args:
        path: A directory, an archive, or a file.
        name: The application's; None: what the path says.
        given: Fields of the specification that options set.
        excludes: Patterns of files that are left out.

    Raises:
        InvalidRequest: Something is missing, or cannot be packed; the text says what to do.
    """
    if not path.exists():
        raise InvalidRequest(f"{path} does not exist; a directory, an archive or a file is needed")
    files = None if is_archive(path) else list_files(path, excludes)
    said_name, spec = _application_file(path)
    project = _project(path)
    spec = replace(spec, **{key: value for key, value in given.items() if value not in (None, ())})
    if not spec.installer:
        spec = replace(spec, installer=find_installer(path))
    if spec.shim is ShimKind.UNSPECIFIED:
        is_python = spec.installer == PYTHON and not spec.command
        spec = replace(spec, shim=ShimKind.PYTHON if is_python else ShimKind.HOST)
    if spec.shim is ShimKind.PYTHON:
        if not spec.entry_point:
            spec = replace(spec, entry_point=_entry_point(path, project))
    elif not spec.command and spec.shim is not ShimKind.SHELL:
        spec = replace(spec, command=_only_program(path, files))
    name = name or said_name or project.get("name") or _file_name(path)
    return Deployment(check_name(str(name), "application"), spec, path, files)


def _application_file(path: Path) -> tuple[str | None, ApplicationSpec]:
    file = path / APPLICATION_FILE
    if not file.is_file():
        return None, ApplicationSpec(shim=ShimKind.UNSPECIFIED)
    found = read_applications(str(file))
    if len(found) != 1:
        raise InvalidConfiguration(
            f"{file} holds {len(found)} applications; one directory is one application's package"
        )
    name, spec = found[0]
    if spec.url is not None:
        raise InvalidConfiguration(f"{file}: spec.url is what deploying fills in; leave it out")
    return name, spec


def _project(path: Path) -> Mapping[str, Any]:
    """Return the table [project] of pyproject.toml; empty without one."""
    file = path / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        project = tomllib.loads(file.read_text()).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{file} cannot be read: {error}") from error
    return project if isinstance(project, dict) else {}


def _entry_point(path: Path, project: Mapping[str, Any]) -> str:
    groups = project.get("entry-points")
    found = groups.get(ENTRY_POINTS, {}) if isinstance(groups, dict) else {}
    if len(found) == 1:
        return str(next(iter(found.values())))
    seen = f"it names {len(found)} of them" if found else "it names none"
    raise InvalidRequest(
        f"{path} is a Python application, and {seen}: say --entry-point package.module:Service, or "
        f'have one line below [project.entry-points."{ENTRY_POINTS}"] in pyproject.toml'
    )


def _only_program(path: Path, files: PackList | None) -> str:
    programs = []
    if files is not None:
        programs = [
            file.path.removeprefix("bin/")
            for file in files.files
            if file.executable and "/" not in file.path.removeprefix("bin/")
        ]
    if len(programs) == 1:
        return programs[0]
    seen = (
        f"holds the programs {', '.join(programs)}" if programs else "holds no program that I see"
    )
    raise InvalidRequest(f"{path} {seen}: say which one serves with --command NAME")


def _file_name(path: Path) -> str:
    name = path.resolve().name
    if path.suffix == ".whl":
        return name.partition("-")[0]
    for suffix in ARCHIVES:
        name = name.removesuffix(suffix)
    return name if path.is_dir() or is_archive(path) else Path(name).stem
