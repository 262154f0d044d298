"""The installer ``python``: an environment of the package's own, in which Flame can be imported too.

The environment has the package, and what it needs, in its own directory; Flame and its dependencies are
found behind them, where the node has them (a ``.pth`` file). Versions that would break Flame's own
process are refused while installing: they are constraints. ``uv`` does the work where there is one,
``venv`` and ``pip`` otherwise. Nothing is downloaded if the package brings wheels, or needs none.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flame.executor_manager.packages import BadPackage

#: Where ``import flame`` finds it.
SOURCES = Path(__file__).resolve().parents[3]

#: What an executor imports in the very process that runs the package's code.
SHARED = ("cloudpickle", "grpcio", "msgspec", "protobuf", "psutil", "uvloop")

_WHEEL_PLACES = (".", "wheels", "wheelhouse", "vendor", "dist")
_BEHIND = "flame-node.pth"


@dataclass(slots=True)
class Plan:
    """What of a package is installed, and how.

    Attributes:
        targets: What pip and uv are told to install; empty: nothing.
        paths: Directories to import from as they are.
        wheels: Directories with wheels that the package brings.
        offline: Nothing may be downloaded.
        isolated: A build gets an environment of its own.
    """

    targets: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    wheels: list[Path] = field(default_factory=list)
    offline: bool = False
    isolated: bool = True


def install_python(source: Path, wheel: Path | None, environment: Path, cache: Path) -> None:
    """Make the environment.

    Args:
        source: What the archive holds, unpacked.
        wheel: The archive itself, if it is a wheel.
        environment: Where to make it.
        cache: For downloads.

    Raises:
        BadPackage: The installer failed; what it said is in the log.
    """
    plan = make_plan(source, wheel)
    uv = find_uv()
    made = (
        [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(environment)]
        if uv
        else [sys.executable, "-m", "venv", str(environment)]
    )
    _run(made, cache, "make an environment")
    python = environment / "bin" / "python"
    packages = site_packages(environment)
    _pretend_flame(packages)
    if not plan.isolated:
        _put_behind(packages, plan.paths)  # the build needs what the node has
    if plan.targets:
        constraints = environment / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in pins()))
        options = ["--constraint", str(constraints)]
        for place in plan.wheels:
            options += ["--find-links", str(place)]
        if plan.offline:
            options += ["--no-index"]
        if not plan.isolated:
            options += ["--no-build-isolation"]
        tool = (
            [uv, "pip", "install", "--python", str(python), "--link-mode", "copy"]
            if uv
            else [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        )
        _run([*tool, *options, *plan.targets], cache, "install the package")
    _put_behind(packages, plan.paths)


def make_plan(source: Path, wheel: Path | None) -> Plan:
    """Decide what is installed: a project, its requirements, or wheels.

    Raises:
        BadPackage: Its pyproject.toml cannot be read.
    """
    plan = Plan()
    if wheel is not None:
        plan.targets = [str(wheel)]
        return plan
    root = project_root(source)
    project = _pyproject(root)
    plan.wheels = [root / place for place in _WHEEL_PLACES if any((root / place).glob("*.whl"))]
    plan.offline = bool(plan.wheels)
    if project is not None or (root / "setup.py").exists() or (root / "setup.cfg").exists():
        plan.targets = [str(root)]
        if _needs_nothing(project):
            plan.offline = True
        if plan.offline and _backend_is_here(project or {}):
            plan.isolated = False
        elif not plan.wheels:
            plan.offline = False  # what builds it has to come from somewhere
    elif (root / "requirements.txt").exists():
        plan.targets = ["--requirement", str(root / "requirements.txt")]
        plan.paths = [root]
    else:
        plan.targets = [str(each) for each in sorted(root.glob("*.whl"))]
        plan.paths = [root]
    return plan


def project_root(source: Path) -> Path:
    """Return where the project is: in the one directory at the top of a source release, mostly not."""
    entries = list(source.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        inner = entries[0]
        if any((inner / name).exists() for name in ("pyproject.toml", "setup.py", "setup.cfg")):
            return inner
    return source


def find_uv() -> str | None:
    """Return uv beside this interpreter, or on PATH; None: pip has to do."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def site_packages(environment: Path) -> Path:
    """Return where an environment's packages are."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / version / "site-packages"


def flame_version() -> str:
    """Return the version of Flame that is installed here; 0 in a mere source tree."""
    try:
        return importlib.metadata.version("flame")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def pins() -> list[str]:
    """Return the versions that must not change under Flame, as requirements."""
    found = []
    for name in SHARED:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _pyproject(root: Path) -> dict[str, Any] | None:
    """Read pyproject.toml; None if there is none, or it only configures tools."""
    try:
        content = tomllib.loads((root / "pyproject.toml").read_text())
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadPackage(f"the package's pyproject.toml cannot be read: {error}") from error
    return content if "project" in content or "build-system" in content else None


def _needs_nothing(pyproject: Mapping[str, Any] | None) -> bool:
    project = (pyproject or {}).get("project")
    if not isinstance(project, dict):
        return False  # setup.py decides
    return not project.get("dependencies") and "dependencies" not in project.get("dynamic", ())


def _backend_is_here(pyproject: Mapping[str, Any]) -> bool:
    """Whether this interpreter can import what builds the project."""
    system = pyproject.get("build-system")
    backend = system.get("build-backend") if isinstance(system, dict) else None
    name = str(backend or "setuptools").partition(":")[0].partition(".")[0]
    return importlib.util.find_spec(name) is not None


def _pretend_flame(packages: Path) -> None:
    """Make ``flame`` count as installed: a package of that name elsewhere is another one."""
    version = flame_version()
    entry = packages / f"flame-{version}.dist-info"
    entry.mkdir(parents=True, exist_ok=True)
    (entry / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flame\nVersion: {version}\n")
    (entry / "INSTALLER").write_text("flame\n")
    (entry / "RECORD").write_text("")


def _put_behind(packages: Path, paths: Sequence[Path]) -> None:
    """Have the environment import from these, then from where this interpreter finds Flame."""
    own = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    own.append(str(SOURCES))
    lines = dict.fromkeys([*map(str, paths), *own])
    (packages / _BEHIND).write_text("".join(f"{line}\n" for line in lines))


def _run(command: Sequence[str], cache: Path, what: str) -> None:
    environment = {**os.environ, "UV_CACHE_DIR": str(cache), "PIP_CACHE_DIR": str(cache / "pip")}
    environment.pop("PYTHONPATH", None)
    if "PIP_INDEX_URL" in environment:  # uv does not read pip's settings
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    print("$", *command, flush=True)  # noqa: T201 - this is the log
    code = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, check=False
    ).returncode
    if code != 0:
        raise BadPackage(f"{os.path.basename(command[0])} could not {what} (exit code {code})")
