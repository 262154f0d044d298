"""Executors that run as somebody else than their manager; only root may have that."""

import dataclasses
import glob
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from flame.executor_manager.accounts import Account, Accounts
from flame.model.errors import InvalidConfiguration
from tests.executor_manager.conftest import HERE, SOURCES, running_node
from tests.executor_manager.manager import FakeManager, bind, python
from tests.executor_manager.test_executor import run
from tests.executor_manager.test_host_shim import program

NOBODY = pwd.getpwnam("nobody")


def interpreter_for_nobody() -> tuple[str, dict[str, str]]:
    """Return a Python that this user may run, and the variables it needs to find Flame."""
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    path = os.pathsep.join((SOURCES, packages))
    name = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, *sorted(glob.glob(f"/usr/*bin/{name}"))):
        try:
            tried = subprocess.run(
                [candidate, "-P", "-c", "import flame.executor_manager.executor"],
                env={"PYTHONPATH": path},
                cwd="/",
                user=NOBODY.pw_uid,
                group=NOBODY.pw_gid,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return candidate, {"PYTHONPATH": path}
    pytest.skip("NOT TESTED: there is no Python here that the user nobody may run")


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT TESTED: only root can start executors as another user"
)


@needs_root
@pytest.mark.parametrize("options", [("--user", "nobody"), ("--tenant-user", "default=nobody")])
async def test_executors_run_as_another_user_who_owns_their_files(
    manager: FakeManager, public_directory: Path, options: tuple[str, ...]
) -> None:
    python3, environment = interpreter_for_nobody()
    async with running_node(
        manager, public_directory / "node", options=options, python=python3, **environment
    ) as node:
        line = await manager.start(tenant="default")
        application = python("services_under_test:Obedient", PYTHONPATH=HERE)
        await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
        await run(
            manager,
            line,
            {
                1: b"whoami",
                2: b"write here",
                3: b"environment HOME",
                4: f"read {node.directory / 'lock'}".encode(),
                5: b"multiprocess",
                6: f"list {node.directory}".encode(),
            },
        )
        assert line.outputs[1] == f"{NOBODY.pw_uid} {NOBODY.pw_gid}".encode()
        assert line.outputs[2] == b"written"
        assert line.outputs[3] == NOBODY.pw_dir.encode()
        assert line.outputs[5] == b"[0, 1, 4, 9]"
        assert "Permission" in line.failures[6]
        assert (node.directory / "e1" / "here").stat().st_uid == NOBODY.pw_uid
        line.send({7: b"exit 3"})
        await manager.until(lambda: manager.exits, "the report")
        assert (manager.exits[0].cause, manager.exits[0].task_id) == ("exit", 7)


@needs_root
async def test_service_programs_run_as_that_user_too(
    manager: FakeManager, public_directory: Path
) -> None:
    options = ("--user", "nobody")
    python3, environment = interpreter_for_nobody()
    async with running_node(
        manager, public_directory / "node", options=options, python=python3, **environment
    ) as node:
        line = await manager.start()
        application = dataclasses.replace(
            program(PYTHONPATH=environment["PYTHONPATH"]), command=python3
        )
        result = await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
        assert result.message == ""
        await run(manager, line, {1: b"x"})
        assert line.outputs[1] == b"app/s1:1"
        users = {process.uids().real for process in node.family()}
        assert users == {0, NOBODY.pw_uid}


@needs_root
def test_a_user_who_cannot_work_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "node").mkdir()
    python3, environment = interpreter_for_nobody()
    monkeypatch.setattr(sys, "executable", python3)
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    with pytest.raises(InvalidConfiguration, match=r"user 'nobody' cannot enter .*node"):
        Accounts.parse("nobody", ()).check(str(tmp_path / "node"))


@needs_root
def test_root_is_no_other_user() -> None:
    with pytest.raises(InvalidConfiguration, match="is root; name another"):
        Account.find("root")


def test_a_user_who_is_not_there_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="'no-such-user' does not exist"):
        Account.find("no-such-user")


def test_other_users_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidConfiguration, match="it runs as user 1000"):
        Account.find("nobody")


@pytest.mark.parametrize("pair", ["default", "=nobody", "default="])
def test_a_tenants_user_is_a_pair(pair: str) -> None:
    with pytest.raises(InvalidConfiguration, match="TENANT=USER is needed"):
        Accounts.parse(None, (pair,))
