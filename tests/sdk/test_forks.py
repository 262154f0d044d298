"""A process that inherited a connection is told so, instead of hanging."""

import subprocess
import sys
from pathlib import Path

import flame
from tests.sdk.fake_manager import TOKEN, FakeManager

ROOT = Path(flame.__file__).parents[2]

IN_CHILD = """
import os, sys, flame

client = flame.connect(sys.argv[1], token=sys.argv[2])
session = client.create_session("app")
assert session.invoke(b"ab", timeout=10) == b"ba"
pending = flame.Future(session._feed, None)

def told(what, call):
    try:
        call()
    except flame.FlameError as error:
        assert "forked" in str(error), error
        print(what, "told")
    else:
        print(what, "NOT told")

if os.fork() == 0:
    told("run", lambda: session.run(b"x"))
    told("call", client.list_sessions)
    told("wait", pending.result)
    told("connect", lambda: flame.connect(sys.argv[1], token=sys.argv[2]))
    sys.exit(0)  # with atexit handlers, which must not touch the parent's connection
_, status = os.wait()
assert session.invoke(b"cd", timeout=10) == b"dc"
print("parent works, child exited with", os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_is_told_and_the_parent_goes_on(manager: FakeManager) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_CHILD, manager.endpoint, TOKEN],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "run told",
        "call told",
        "wait told",
        "connect told",
        "parent works, child exited with 0",
    ]
    assert done.stderr == ""
