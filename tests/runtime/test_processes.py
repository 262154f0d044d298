import asyncio
import subprocess
import sys

from flame.runtime.processes import ParentWatch, signal_name

CHILD = """
import asyncio, os, sys
from flame.runtime.processes import ParentWatch

async def main():
    gone = asyncio.Event()
    watch = ParentWatch(gone.set, int(sys.argv[1]) if sys.argv[1:] else None)
    print("watching", flush=True)
    await asyncio.wait_for(gone.wait(), 20)
    print("gone", flush=True)

asyncio.run(main())
"""


async def test_a_child_hears_that_its_parent_is_gone() -> None:
    # The parent is a shell that ends when its stdin does; its child holds the same stdout.
    parent = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        '"$0" -c "$1" & read line',
        sys.executable,
        CHILD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"watching\n"
    parent.kill()
    await parent.wait()
    assert await asyncio.wait_for(parent.stdout.readline(), 10) == b"gone\n"


async def test_a_parent_that_ended_before_the_watch_is_noticed_too() -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    gone = asyncio.Event()
    watch = ParentWatch(gone.set, ended.pid)
    await asyncio.wait_for(gone.wait(), 5)
    watch.close()


async def test_a_closed_watch_says_nothing() -> None:
    watch = ParentWatch(lambda: None)
    watch.close()
    watch.close()


def test_signals_have_names() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(99) == "signal 99"
