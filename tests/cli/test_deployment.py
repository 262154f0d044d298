"""What ``flmctl deploy`` finds in a directory, and what it needs to be told."""

from pathlib import Path
from typing import Any

import pytest

from flame.cli.deployment import Deployment, plan_deployment
from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.specs import ShimKind

ROOT = Path(__file__).resolve().parents[2]


def lay_out(directory: Path, *programs: str, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for program in programs:
        path = directory / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return directory


def plan(path: Path, name: str | None = None, **given: Any) -> Deployment:
    return plan_deployment(path, name, given, ())


def test_a_python_project_says_its_name_and_entry_point() -> None:
    planned = plan(ROOT / "examples/packages/words")
    assert planned.name == "words"
    assert planned.spec.entry_point == "words.service:Words"
    assert (planned.spec.shim, planned.spec.installer) == (ShimKind.PYTHON, "python")


def test_an_application_file_says_everything() -> None:
    planned = plan(ROOT / "examples/packages/count")
    assert planned.name == "count"
    assert (planned.spec.shim, planned.spec.command) == (ShimKind.STDIO, "count.sh")
    assert planned.spec.installer == "binary"


def test_options_count_more_than_what_is_found() -> None:
    planned = plan(
        ROOT / "examples/packages/words",
        "other",
        entry_point="words.service:Other",
        labels=("a",),
        environments=(),
        max_instances=3,
    )
    assert (planned.name, planned.spec.entry_point) == ("other", "words.service:Other")
    assert (planned.spec.labels, planned.spec.max_instances) == (("a",), 3)


def test_the_only_program_serves(tmp_path: Path) -> None:
    planned = plan(lay_out(tmp_path / "app", "bin/serve", README="read me"))
    assert (planned.name, planned.spec.command) == ("app", "serve")
    assert (planned.spec.shim, planned.spec.installer) == (ShimKind.HOST, "binary")


@pytest.mark.parametrize(
    ("programs", "complaint"),
    [((), "holds no program that I see"), (("a", "bin/b"), "holds the programs a, b")],
)
def test_which_program_serves_has_to_be_said(
    tmp_path: Path, programs: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint) as said:
        plan(lay_out(tmp_path, *programs, README="read me"))
    assert "--command NAME" in str(said.value)


def test_an_entry_point_has_to_be_said_once(tmp_path: Path) -> None:
    lay_out(tmp_path, pyproject__toml='[project]\nname = "x"\n')
    with pytest.raises(InvalidRequest, match="it names none: say --entry-point"):
        plan(tmp_path)
    two = '[project.entry-points."flame.service"]\na = "x:A"\nb = "x:B"\n'
    lay_out(tmp_path, pyproject__toml=two)
    with pytest.raises(InvalidRequest, match="it names 2 of them"):
        plan(tmp_path)


def test_a_file_or_an_archive_gives_its_name(tmp_path: Path) -> None:
    lay_out(tmp_path, "serve.sh", module__py="", release__tar__gz="")
    assert plan(tmp_path / "serve.sh").name == "serve"
    assert plan(tmp_path / "module.py", entry_point="module:serve").name == "module"
    wheel = tmp_path / "my_app-1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    planned = plan(wheel, entry_point="my_app:serve")
    assert (planned.name, planned.files) == ("my_app", None)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"pyproject__toml": "[project"}, r"pyproject\.toml cannot be read"),
        ({"application__yaml": "metadata: {name: a}\nspec: {url: x}"}, "leave it out"),
        ({"application__yaml": "---\nmetadata: {name: a}\nspec: {}\n" * 2}, "2 applications"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint):
        plan(lay_out(tmp_path, "serve", **files))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        plan(tmp_path / "missing")
