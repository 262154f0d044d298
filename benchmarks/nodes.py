"""A second executor manager, joined by address and token."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.clusters import Bench


@contextlib.contextmanager
def joined(cluster: Bench, executors: int) -> Iterator[None]:
    """Add a node with so many unit executors to a cluster; ready when it is registered."""
    reading, writing = os.pipe()
    log = cluster.cluster.directory / "joined.log"
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "flame.executor_manager"),
                *("--endpoint", cluster.cluster.endpoint),
                *("--token-file", str(cluster.cluster.token_file)),
                *("--node", f"joined-{os.getpid()}"),
                *("--executors", str(executors)),
                *("--ready-fd", str(writing)),
                "--die-with-parent",
            ],
            pass_fds=[writing],
            stderr=errors,
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            assert ready.readline(), f"the executor manager did not start:\n{log.read_text()}"
        cluster.executors += executors
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
