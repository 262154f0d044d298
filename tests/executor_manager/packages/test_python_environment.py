"""The installer ``python``: what is installed, from where, and with which tool."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from flame.executor_manager.packages import BadPackage, python_environment
from flame.executor_manager.packages.python_environment import install_python, make_plan


def lay_out(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def a_wheel(directory: Path, name: str = "where") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "HERE = __file__\n")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: flame\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


NEEDS_NOTHING = '[project]\nname = "x"\nversion = "1"\n'
NEEDS = NEEDS_NOTHING + 'dependencies = ["where"]\n'


def test_a_project_that_needs_nothing_is_built_with_what_the_node_has(tmp_path: Path) -> None:
    plan = make_plan(lay_out(tmp_path, pyproject__toml=NEEDS_NOTHING), None)
    assert (plan.targets, plan.offline, plan.isolated) == ([str(tmp_path)], True, False)


def test_a_project_with_wheels_inside_downloads_nothing(tmp_path: Path) -> None:
    a_wheel(lay_out(tmp_path, pyproject__toml=NEEDS) / "wheels")
    plan = make_plan(tmp_path, None)
    assert (plan.offline, plan.wheels) == (True, [tmp_path / "wheels"])


def test_a_project_that_needs_more_asks_the_index(tmp_path: Path) -> None:
    plan = make_plan(lay_out(tmp_path, pyproject__toml=NEEDS), None)
    assert (plan.offline, plan.isolated) == (False, True)
    unknown = NEEDS_NOTHING + '[build-system]\nbuild-backend = "nobody.has.this"\n'
    plan = make_plan(lay_out(tmp_path, pyproject__toml=unknown), None)
    assert (plan.offline, plan.isolated) == (False, True)


def test_a_pyproject_that_only_configures_tools_is_no_project(tmp_path: Path) -> None:
    plan = make_plan(lay_out(tmp_path, pyproject__toml="[tool.ruff]\n", app__py=""), None)
    assert (plan.targets, plan.paths) == ([], [tmp_path])


def test_a_source_release_has_its_project_in_a_directory(tmp_path: Path) -> None:
    lay_out(tmp_path / "x-1.0", pyproject__toml=NEEDS_NOTHING)
    assert make_plan(tmp_path, None).targets == [str(tmp_path / "x-1.0")]


def test_a_pyproject_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match=r"pyproject\.toml cannot be read"):
        make_plan(lay_out(tmp_path, pyproject__toml="[project"), None)


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_flame_is_there_already_whichever_tool_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """``flame`` in a package index is another project's."""
    if tool == "pip":
        monkeypatch.setattr(python_environment, "find_uv", lambda: None)
    source = tmp_path / "src"
    source.mkdir()
    environment = tmp_path / "env"
    install_python(source, a_wheel(tmp_path), environment, tmp_path / "cache")
    done = subprocess.run(
        [environment / "bin/python", "-P", "-c", "import where, flame, grpc; print(where.HERE)"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(environment))


def test_a_version_that_would_break_flame_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = lay_out(tmp_path / "src", requirements__txt="protobuf==3.20.0\n")
    with pytest.raises(BadPackage, match="could not install the package"):
        install_python(source, None, tmp_path / "env", tmp_path / "cache")
    assert "protobuf" in capfd.readouterr().err
