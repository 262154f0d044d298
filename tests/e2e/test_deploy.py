"""From a directory to a session on it, by the shipped command, on a real cluster."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.model.errors import TaskFailed
from flame.sdk.local_cluster import LocalCluster
from tests.e2e.test_commands import COMMAND_TIMEOUT, ROOT, Commands

TEXTS = [b"to be or not to be", b"", b"  that is\nthe   question "]
COUNTS = [b"0", b"0", b"1"]
WITHIN = 60.0  # seconds


@pytest.fixture
def commands(cluster: LocalCluster, tmp_path: Path) -> Commands:
    return Commands(cluster.endpoint, cluster.token_file, tmp_path)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[flame.Client]:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as connected:
        yield connected


@pytest.mark.parametrize("name", ["words", "count"])
def test_an_example_is_deployed_and_serves_a_session(
    commands: Commands, client: flame.Client, name: str
) -> None:
    path = str(ROOT / "examples/packages" / name)
    first = commands.good("flmctl", "deploy", path)
    assert f"Application {name} is registered" in first
    assert "is uploaded." in first
    with client.create_session(name) as session:
        outputs = [(output or b"").strip() for output in session.map(TEXTS)]
    assert outputs == COUNTS
    again = json.loads(commands.good("flmctl", "deploy", path, "-o", "json"))
    assert (again["action"], again["package"]["uploaded"]) == ("updated", False)
    shown = json.loads(commands.good("flmctl", "view", "-a", name, "-o", "json"))
    assert shown["spec"]["url"] == again["package"]["url"]
    assert [package["state"] for package in shown["status"]["packages"]] == ["ready"]
    assert "ready since" in commands.good("flmctl", "view", "-a", name)


def test_a_dry_run_shows_and_does_nothing(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "app" / ".git").mkdir(parents=True)
    (tmp_path / "app" / ".git" / "config").write_text("")
    (tmp_path / "app" / "service.py").write_text("x")
    arguments = ["deploy", str(tmp_path / "app"), "--entry-point", "service:X", "--dry-run"]
    said = commands.good("flmctl", *arguments)
    assert "1 files, 1 bytes, would be packed; left out: .git." in said
    assert "Application app would be registered or updated" in said
    assert "app" not in commands.good("flmctl", "list", "-a")
    planned = json.loads(commands.good("flmctl", *arguments, "-o", "json"))
    assert planned["files"] == [{"path": "service.py", "size": 1}]
    assert planned["spec"]["entry_point"] == "service:X"


def test_a_bad_package_is_told_to_its_session_and_harms_no_other(
    commands: Commands, client: flame.Client, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "service.py").write_text("import pandas_of_another_world\n")
    arguments = ["deploy", str(app), "--name", "bad", "--entry-point", "service:serve"]
    commands.good("flmctl", *arguments)
    with client.create_session("bad", max_instances=1) as session:
        waiting = session.run(b"x")
        with client.create_session("flmping") as other:
            assert other.run(b"x").result(WITHIN) is not None
        with pytest.raises(TaskFailed) as failed:
            waiting.result(WITHIN)
        assert "return_code <10>" in str(failed.value)
        assert "No module named 'pandas_of_another_world'" in str(failed.value)
        [package] = client.get_application("bad").packages
        assert package.state == "failed"
        assert "pandas_of_another_world" in commands.good("flmctl", "view", "-a", "bad")
        # Mended and deployed again, the same session works.
        (app / "service.py").write_text("def serve(data):\n    return data\n")
        assert "is updated" in commands.good("flmctl", *arguments)
        assert session.run(b"mended").result(WITHIN) == b"mended"


SCRIPT = """
import flame
import tools.shout


@tools.shout.twice
def service(data):
    from tools import quiet

    return quiet.end(tools.shout.up(data))


if __name__ == "__main__":
    with flame.connect({endpoint!r}, token_file={token_file!r}) as client:
        with client.create_session(service) as session:
            print(session.invoke(b"hey"))
"""


def test_a_script_needs_no_package_for_the_modules_beside_it(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").write_text("")
    (tmp_path / "tools/quiet.py").write_text("def end(data):\n    return data + b'.'\n")
    (tmp_path / "tools/shout.py").write_text(
        "def up(data):\n    return data.upper()\n\n"
        "def twice(function):\n    return lambda data: function(data) * 2\n"
    )
    script = SCRIPT.format(endpoint=cluster.endpoint, token_file=str(cluster.token_file))
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b'HEY.HEY.'\n"
