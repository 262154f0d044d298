"""Start-up beside a million stored tasks, all pending or all finished: until ready, and memory.

python -m benchmarks.restart --storage postgresql://flame@localhost/flame   on another store
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from benchmarks.clusters import file_labels
from benchmarks.options import parse
from benchmarks.report import labels, report, summary
from flame.core.records import ApplicationPut, OutcomesRecorded, SessionPut, TasksSubmitted
from flame.model.ids import DEFAULT_TENANT, SessionNumber, TaskId
from flame.model.specs import ApplicationSpec, SessionSpec, SessionState
from flame.storage.open import open_store

BATCH = 2048
SIZE = 64  # bytes of an input, and of an output
MIB = 1024 * 1024


def fill(url: str, number: int, tasks: int, finished: int) -> None:
    """Store one more session with so many tasks."""
    session = SessionNumber(number)
    spec = SessionSpec("stored")
    with closing(open_store(url)) as store:
        store.load()
        application = ApplicationPut(DEFAULT_TENANT, "stored", ApplicationSpec(), 1)
        put = SessionPut(session, DEFAULT_TENANT, f"s{number}", spec, SessionState.OPEN, 1)
        store.commit([application, put], sync=False)
        for first in range(1, tasks + 1, BATCH):
            count = min(BATCH, tasks + 1 - first)
            inputs = [os.urandom(SIZE) for _ in range(count)]
            batch = TasksSubmitted(session, bytes(16), first - 1, TaskId(first), inputs, 1)
            store.commit([batch], sync=False)
        for position in range(0, finished, BATCH):
            ids = [TaskId(i + 1) for i in range(position, min(position + BATCH, finished))]
            outputs = [os.urandom(SIZE) for _ in ids]
            store.commit([OutcomesRecorded(session, position, ids, outputs, {}, 1)], sync=False)


def start(url: str, directory: Path) -> tuple[float, float]:
    """Start a session manager; return the seconds until it was ready, and its memory in MiB."""
    ours, theirs = os.pipe()
    command = ["-m", "flame.session_manager", "--listen", "127.0.0.1:0", "--storage", url]
    command += ["--token-file", str(directory / "token"), "--ready-fd", str(theirs)]
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], pass_fds=(theirs,), stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            json.loads(pipe.readline())
        taken = time.perf_counter() - begin
        used = psutil.Process(process.pid).memory_info().rss / MIB
        process.terminate()
    return taken, used


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--storage", metavar="URL", help="an empty store; default: a new file")
    chosen, rounds = parse(options)
    tasks = rounds.scaled(1_000_000)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for number, (state, finished) in enumerate((("finished", tasks), ("pending", 0)), 1):
            url = chosen.storage or f"sqlite://{directory / state}.db"
            fill(url, number, tasks, finished)
            starts = [start(url, directory) for _ in range(rounds.count)]
            file = url.removeprefix("sqlite://")
            kept = labels("postgresql", "durable") if file == url else file_labels(Path(file))
            stored = {**kept, "stored": tasks, "state": state}
            rows.append({**stored, "unit": "s", **summary(taken for taken, _ in starts)})
            rows.append({**stored, "unit": "MiB", **summary(used for _, used in starts)})
    report("restart", rows, f"a session manager's start; {tasks:,} tasks of {SIZE} bytes a session")


if __name__ == "__main__":
    main()
