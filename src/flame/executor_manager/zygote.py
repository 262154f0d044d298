"""A process that executors are forked from: ``python -m flame.executor_manager.zygote``.

    guardian ──▶ zygote: imports, says ready ──fork──▶ (goes at once) ──fork──▶ executor

It has imported what executors need, and, for an application that asked for it, the module of its
entry point. It has one thread, and never makes a gRPC object or a loop: only so is a fork of it safe.
The second fork makes the executor an orphan, which the guardian, a child subreaper, inherits: parent,
exit status and parent-death signal are then as if it had started the executor itself.

Messages are JSON, one per packet of the socket to the guardian:

    {"ready": true}
    {"fork": number, "guardian": pid} + fds [gate, control, stdout, stderr]
        ──▶ {"forked": number, "pid": pid}     0: what it has imported has changed; start another
    a byte through the gate: the guardian has taken note, and the executor may begin
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

from flame.executor_manager import executor
from flame.executor_manager.guardian_process import CONTROL_FD

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)

MAX_MESSAGE = 4096
UNSAFE = 3  # exit code: what was imported started a thread or a process

#: A file that was imported → (modified, size).
Files = dict[str, tuple[int, int]]


def main() -> None:
    """Import what the arguments name, then fork for as long as the guardian asks."""
    guardian = socket.socket(fileno=CONTROL_FD)
    guardian.set_inheritable(False)
    _LIBC.prctl(_PR_SET_NAME, b"flame-zygote", 0, 0, 0)
    before = set(sys.modules)
    if len(sys.argv) > 1:
        importlib.import_module(sys.argv[1])
    reason = _unsafe()
    if reason:
        sys.stderr.write(f"executors cannot be forked from this process: {reason}\n")
        raise SystemExit(UNSAFE)
    imported = _files(set(sys.modules) - before)
    gc.collect()
    gc.freeze()  # a collection would write to pages that are shared
    guardian.send(b'{"ready": true}')
    while True:
        data, fds, _, _ = socket.recv_fds(guardian, MAX_MESSAGE, 4)
        if not data:
            return
        message = json.loads(data)
        changed = imported != _stat(imported)
        pid = 0 if changed else _fork(guardian, message["guardian"], fds)
        for fd in fds:
            os.close(fd)
        guardian.send(json.dumps({"forked": message["fork"], "pid": pid}).encode())
        if changed:
            return


def _unsafe() -> str:
    """Say why this process must not be forked from; empty if it may."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"it has {threads} threads (libraries that start some when they are imported?)"
    try:
        with open("/proc/self/task/self/children") as file:
            children = file.read().split()
    except OSError:
        return ""
    return f"it has child processes: {', '.join(children)}" if children else ""


def _fork(guardian: socket.socket, parent: int, fds: list[int]) -> int:
    """Fork twice; returns the pid of the second child."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            pid = os.fork()
            if pid == 0:
                guardian.close()
                os.close(reader)
                os.close(writer)
                _become(parent, fds)
            os.write(writer, str(pid).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    os.waitpid(middle, 0)
    return int(said or 0)


def _become(parent: int, fds: list[int]) -> NoReturn:
    """Be an executor from here on."""
    code = 1
    try:
        gate, control, out, err = fds
        if os.read(gate, 1) != b"g" or os.getppid() != parent:
            os._exit(127)
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for fd, number in ((out, 1), (err, 2), (control, CONTROL_FD)):
            os.dup2(fd, number)
        for fd in fds:
            os.close(fd)
        sys.argv[:] = [str(executor.__file__)]
        _draw_again()
        executor.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # As an interpreter would that comes to its end. The executor's own handler ends the process.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        os._exit(code)


def _draw_again() -> None:
    """Draw again what was drawn at random in the parent; Python does so for ``random`` itself."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def _files(names: set[str]) -> Files:
    """Return the files of modules that a user may change: not those of installed packages."""
    found = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    own = [path for path in found if path and "site-packages" not in path]
    return _stat([path for path in own if not path.startswith(sys.base_prefix)])


def _stat(paths: "list[str] | Files") -> Files:
    status: Files = {}
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        status[path] = (found.st_mtime_ns, found.st_size)
    return status


if __name__ == "__main__":
    main()
