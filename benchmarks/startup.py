"""From ``flame.connect()`` to the first result, each time in a new process."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.options import parse
from benchmarks.report import report, summary

SLOW_MODULE = """
import time
time.sleep(0.5)
def echo(data): return data
"""

ROOT = Path(__file__).resolve().parent.parent


def once() -> dict[str, Any]:
    """What figures depend on; and milliseconds of: import, connect to first result, next session
    to its first result, close.
    """
    payloads = [os.urandom(16) for _ in range(2)]
    begin = time.perf_counter()
    import flame
    from benchmarks.work import Reverse

    imported = time.perf_counter()
    with flame.connect() as client:
        with client.create_session(Reverse) as session:
            assert session.invoke(payloads[0]) == payloads[0][::-1]
            first = time.perf_counter()
            session.close()
        again = time.perf_counter()
        with client.create_session(Reverse) as session:
            assert session.invoke(payloads[1]) == payloads[1][::-1]
            following = time.perf_counter()
        imports = slow_imports(client)
        labels = embedded_labels()
        ending = time.perf_counter()
    closed = time.perf_counter()
    figures = {
        "import flame": (imported - begin) * 1000,
        "connect to first result": (first - imported) * 1000,
        "next session to its first result": (following - again) * 1000,
        **imports,
        "close": (closed - ending) * 1000,
    }
    return {"labels": labels, "figures": figures}


def embedded_labels() -> dict[str, Any]:
    """Of the cluster that the SDK started for us: its session manager was told where to store."""
    from benchmarks.clusters import file_labels, started_manager

    command = started_manager().cmdline()
    return file_labels(Path(command[command.index("--storage") + 1].removeprefix("sqlite://")))


def slow_imports(client: Any) -> dict[str, float]:
    """Milliseconds from a session to its first result where a module takes half a second to import."""
    from flame.model.specs import ApplicationSpec, ShimKind

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "slow_module.py").write_text(SLOW_MODULE)
        spec = ApplicationSpec(
            shim=ShimKind.PYTHON,
            entry_point="slow_module:echo",
            environments=(("PYTHONPATH", directory),),
            delay_release=0,
            standby=0,
        )
        client.register_application("slow", spec)
        client.register_application("preloaded", dataclasses.replace(spec, preload=True))

        def first_result(application: str) -> float:
            begin = time.perf_counter()
            with client.create_session(application) as session:
                payload = os.urandom(16)
                assert session.invoke(payload) == payload
                taken = time.perf_counter() - begin
            time.sleep(1.5)  # used processes are replaced, and modules imported ahead
            return taken * 1000

        return {
            "import of 0.5 s, first session": first_result("preloaded"),
            "import of 0.5 s, next session, preload": first_result("preloaded"),
            "import of 0.5 s, no preload": first_result("slow"),
        }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen, rounds = parse(options)
    if chosen.once:
        print(json.dumps(once()))
        return
    command = [sys.executable, "-m", "benchmarks.startup", "--once"]
    results = [
        json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        for _ in range(rounds.count)
    ]
    rows: list[dict[str, Any]] = [
        {
            **results[0]["labels"],
            "figure": name,
            "unit": "ms",
            **summary(result["figures"][name] for result in results),
        }
        for name in results[0]["figures"]
    ]
    report("startup", rows, "embedded cluster, a new process each time")


if __name__ == "__main__":
    main()
