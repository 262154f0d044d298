"""HyperQueue: tasks are programs, so the task is ``rev``, which reads a line and writes it reversed.

That starts in a millisecond; a Python function would start an interpreter for each task. One job holds
all tasks, each with its own input and its own file for the output, which is its only way of answering.
HyperQueue's own wait looks once a second; looking at the files sees an end at once. More slots than cores
gain nothing: it starts 400 programs a second with 2, 8 or 32. Server and worker are threads of its Python
package, which has no other program.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.peers import WORKERS

TIMEOUT = 60.0  # seconds for one answer


class HyperQueue:
    setting = "one job, a task (the program `rev`) each, 2 slots, answers in files"

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flame-bench-hq-")
        self._path = Path(self._directory.name)
        self._jobs = 0
        with _silence():  # it prints a table when it starts
            self._cluster = LocalCluster(
                server_dir=str(self._path / "server"), worker_config=WorkerConfig(cores=WORKERS)
            )
            self._client = self._cluster.client()

    def submit(self, payloads: Sequence[bytes]) -> list[tuple[Path, int]]:
        self._jobs += 1
        answers = self._path / str(self._jobs)
        answers.mkdir()
        job = Job(default_workdir=answers)
        futures = []
        for index, payload in enumerate(payloads):
            path = answers / str(index)
            job.program(["rev"], stdin=payload, stdout=str(path), stderr=None)
            futures.append((path, len(payload)))
        self._client.submit(job)
        return futures

    def take(self, futures: list[tuple[Path, int]]) -> list[bytes]:
        return [_answer(path, size) for path, size in futures]

    def close(self) -> None:
        with _silence():
            self._cluster.stop()
        self._directory.cleanup()


def _answer(path: Path, size: int) -> bytes:
    deadline = time.monotonic() + TIMEOUT
    while True:
        with contextlib.suppress(FileNotFoundError):
            answer = path.read_bytes()
            if len(answer) >= size:
                return answer.rstrip(b"\n")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer in {path} after {TIMEOUT:g} s")
        time.sleep(0.0005)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
