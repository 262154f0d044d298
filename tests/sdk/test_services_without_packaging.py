"""Functions, classes and objects as services: what travels with them, and what cannot."""

import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

import flame
from flame.model.errors import InvalidRequest
from flame.sdk.applications import application_of

Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Lay out the files of somebody's project."""

    def lay_out(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return lay_out


def shipped(directory: Path, script: str) -> list[str]:
    """What a script that prints an application's modules, in another process, sends along."""
    tail = """
import io, zipfile
from flame.sdk.applications import application_of
spec = application_of(service)[1]
if spec.local_modules:
    print(*zipfile.ZipFile(io.BytesIO(spec.local_modules)).namelist(), sep="\\n")
"""
    (directory / "script.py").write_text(script + tail)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_modules_beside_the_script_go_along_and_installed_ones_do_not(project: Project) -> None:
    directory = project(
        tools="import json\nimport msgspec\nimport more\n",
        more="VALUE = 1\n",
        unrelated="",
    )
    assert shipped(
        directory,
        "import os\nimport tools\ndef service(data):\n    return bytes([tools.more.VALUE])\n",
    ) == ["more.py", "tools.py"]


def test_nested_local_packages_go_along_with_their_parents(project: Project) -> None:
    directory = project(
        shapes__in____init__="",
        shapes__in__flat__in____init__="from . import circle\n",
        shapes__in__flat__in__circle="from ..units import METRE\n",
        shapes__in__units="METRE = 1\n",
        shapes__in__solid="",
        bare__in__inner="X = 1\n",
    )
    script = "import shapes.flat.circle\nimport bare.inner\ndef service(data): return data\n"
    assert shipped(directory, script) == [
        "bare/inner.py",
        "shapes/__init__.py",
        "shapes/flat/__init__.py",
        "shapes/flat/circle.py",
        "shapes/units.py",
    ]


def test_what_is_imported_only_inside_a_function_goes_along(project: Project) -> None:
    directory = project(late="VALUE = 3\n")
    script = "def service(data):\n    import late\n    return bytes([late.VALUE])\n"
    assert shipped(directory, script) == ["late.py"]


def test_code_that_was_executed_like_a_notebooks_needs_no_file(project: Project) -> None:
    directory = project(tools="def double(x):\n    return x * 2\n")
    script = """
cells = {"__name__": "__main__"}
exec("import tools", cells)
exec("def service(data): return tools.double(data)", cells)
service = cells["service"]
"""
    assert shipped(directory, script) == ["tools.py"]


def test_a_module_without_a_file_travels_in_the_pickle() -> None:
    made = ModuleType("made_by_exec")
    exec("FACTOR = 3\ndef service(data): return data * FACTOR", vars(made))
    sys.modules[made.__name__] = made
    try:
        pickled = application_of(made.service)[1].pickled_service
    finally:
        del sys.modules[made.__name__]
    assert cloudpickle.loads(pickled)(b"a") == b"aaa"


@dataclass
class Priced:
    spot: float
    notes: list[str] = field(default_factory=list)


def test_lambdas_closures_and_dataclasses_are_services() -> None:
    base = Priced(2.0, ["a"])
    for service in (
        lambda data: data * int(base.spot),
        partial(lambda base, data: data * int(base.spot), base),
    ):
        name, spec = application_of(service)
        assert name
        assert cloudpickle.loads(spec.pickled_service)(b"x") == b"xx"


def test_the_same_modules_are_the_same_application_and_changed_ones_are_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = project(stable_tools="def double(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(directory)
    import stable_tools  # type: ignore[import-not-found]

    def service(data: bytes) -> bytes:
        result: bytes = stable_tools.double(data)
        return result

    first = application_of(service)
    assert application_of(service) == first
    archive = zipfile.ZipFile(io.BytesIO(first[1].local_modules))
    assert "stable_tools.py" in archive.namelist()
    (directory / "stable_tools.py").write_text("def double(x):\n    return x + x\n")
    os.utime(directory / "stable_tools.py")
    assert application_of(service)[0] != first[0]


# --- what cannot be pickled --------------------------------------------------------------------


class Pricer(flame.FlameService):
    """Holds what it must not."""

    def __init__(self, lock: object) -> None:
        self.lock = lock


class Sharing(flame.FlameService):
    """Its class holds what it must not."""

    lock = threading.Lock()


class Slotted:
    __slots__ = ("log",)

    def __init__(self, log: object) -> None:
        self.log = log


def closing_over(value: object) -> Callable[[bytes], bytes]:
    def price(data: bytes) -> bytes:
        return data if value else b""

    return price


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda lock, log: Pricer(lock), r"Pricer\.lock \(threading\.Lock\)"),
        (lambda lock, log: Sharing, r"Sharing\.lock \(threading\.Lock\)"),
        (lambda lock, log: closing_over(lock), r"price's variable value \(threading\.Lock\)"),
        (
            lambda lock, log: closing_over({"a": [1, lock]}),
            r"price's variable value\['a'\]\[1\] \(threading\.Lock\)",
        ),
        (lambda lock, log: closing_over(Slotted(log)), r"value\.log \(an open file\)"),
        (lambda lock, log: partial(pow, lock), r"argument 0 of .*\(threading\.Lock\)"),
        (lambda lock, log: closing_over(Pricer(log)), r"value\.lock \(an open file\)"),
    ],
)
def test_the_part_that_cannot_be_pickled_is_named(
    make: Callable[..., object], culprit: str, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as log, pytest.raises(InvalidRequest, match=culprit) as said:
        application_of(make(threading.Lock(), log))
    assert "created in on_session_enter" in str(said.value)
