"""Counts words with one service per shim: ``python examples/shims/run.py [NAME...]``."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import flame
from flame import ApplicationSpec, ShimKind

HERE = Path(__file__).resolve().parent
TEXTS = (b"to be or not to be", b"", b"  that is\nthe   question ")


def applications(build: Path, flamepy: str) -> Iterator[tuple[str, ApplicationSpec | None]]:
    """Name each application; None stands for one whose tools are not on this machine."""
    yield (
        "python",
        ApplicationSpec(
            shim=ShimKind.PYTHON,
            entry_point="python_words:Words",
            environments=(("PYTHONPATH", str(HERE)),),
        ),
    )
    yield (
        "host",
        shutil.which(flamepy)
        and ApplicationSpec(
            shim=ShimKind.HOST,
            command=flamepy,
            arguments=(str(HERE / "host_words.py"),),
            environments=(("PYTHONPATH", ""),),
        ),
    )
    yield (
        "grpc",
        ApplicationSpec(
            shim=ShimKind.GRPC, command=sys.executable, arguments=(str(HERE / "grpc_words.py"),)
        ),
    )
    node = shutil.which("node")
    yield (
        "http",
        node
        and ApplicationSpec(
            shim=ShimKind.HTTP, command=node, arguments=(str(HERE / "http_words.js"),)
        ),
    )
    yield (
        "stdio-length",
        built(build) and ApplicationSpec(shim=ShimKind.STDIO, command=str(build / "words")),
    )
    yield (
        "stdio-lines",
        node
        and ApplicationSpec(
            shim=ShimKind.STDIO,
            command=node,
            arguments=(str(HERE / "stdio_lines_words.js"),),
            shim_options=(("frames", "lines"),),
        ),
    )
    yield (
        "stdio-none",
        ApplicationSpec(
            shim=ShimKind.STDIO, command="wc", arguments=("-w",), shim_options=(("frames", "none"),)
        ),
    )
    yield "shell", ApplicationSpec(shim=ShimKind.SHELL)
    yield "wasm", ApplicationSpec(shim=ShimKind.WASM, command=str(HERE / "wasm_words.wat"))
    yield "log", ApplicationSpec(shim=ShimKind.LOG)


def built(build: Path) -> bool:
    """Compile the service in C, if there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    command = [compiler, "-O2", "-o", str(build / "words"), str(HERE / "stdio_words.c")]
    return subprocess.run(command, check=False).returncode == 0


def script(text: bytes) -> bytes:
    """A task of the shell shim is a script."""
    return b"wc -w <<'END'\n" + text + b"\nEND\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of the applications (default: all)")
    parser.add_argument("--endpoint", help="default: a cluster for this run")
    parser.add_argument(
        "--flamepy-python",
        type=os.path.abspath,  # executors work elsewhere
        default=os.environ.get("FLAMEPY_PYTHON", str(HERE.parents[1] / ".venv-flamepy/bin/python")),
        help="a Python that has flamepy 0.6.0, for the host shim (default: %(default)s)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as build, flame.connect(options.endpoint) as client:
        for name, spec in applications(Path(build), options.flamepy_python):
            if options.names and name not in options.names:
                continue
            if not spec:
                print(f"{name:13} left out: its tools are not here (see README.md)")
                continue
            texts = [script(text) for text in TEXTS] if name == "shell" else TEXTS
            client.register_application(f"words-{name}", spec)
            try:
                with client.create_session(f"words-{name}", max_instances=1) as session:
                    outputs = [b"-" if out is None else out.strip() for out in session.map(texts)]
            finally:
                client.unregister_application(f"words-{name}")
            print(f"{name:13} {b' '.join(outputs).decode()}")


if __name__ == "__main__":
    main()
