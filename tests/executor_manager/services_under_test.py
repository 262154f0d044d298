"""Services that do what services do wrong, and right. Executors import them by path."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from flame.model.service import FlameService, SessionContext, TaskContext


class Upper(FlameService):
    """Answers the input in capitals, with the common data in front."""

    def on_session_enter(self, context: SessionContext) -> None:
        self.prefix = context.common_data or b""

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        return None if context.input is None else self.prefix + context.input.upper()


def square(number: int) -> int:
    return number * number


def double(data: bytes | None) -> bytes:
    return (data or b"") * 2


class Obedient(FlameService):
    """Does what its input says."""

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        word, _, rest = (context.input or b"").decode().partition(" ")
        return getattr(self, word)(rest, context)  # type: ignore[no-any-return]

    def echo(self, rest: str, context: TaskContext) -> bytes:
        return rest.encode()

    def attempt(self, rest: str, context: TaskContext) -> bytes:
        return str(context.attempt).encode()

    def fail(self, rest: str, context: TaskContext) -> bytes:
        raise ValueError(rest)

    def number(self, rest: str, context: TaskContext) -> int:
        return 7

    def array(self, rest: str, context: TaskContext) -> bytearray:
        return bytearray(b"array")

    def large(self, rest: str, context: TaskContext) -> bytes:
        return bytes(int(rest))

    def interrupt(self, rest: str, context: TaskContext) -> bytes:
        raise KeyboardInterrupt

    def surrogate(self, rest: str, context: TaskContext) -> bytes:
        raise ValueError("\ud800")

    def leave(self, rest: str, context: TaskContext) -> bytes:
        sys.exit(int(rest))

    def exit(self, rest: str, context: TaskContext) -> bytes:
        sys.stderr.write("about to go\n")
        os._exit(int(rest))

    def signal(self, rest: str, context: TaskContext) -> bytes:
        os.kill(os.getpid(), int(rest))
        time.sleep(60)
        return b""

    def fork(self, rest: str, context: TaskContext) -> bytes:
        """Both come back from the task, as careless code does."""
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            return b"parent %d" % os.waitstatus_to_exitcode(status)
        return b"child"

    def allocate(self, rest: str, context: TaskContext) -> bytes:
        block = bytearray(int(rest))
        block[::4096] = b"x" * len(range(0, len(block), 4096))
        return b""

    def hold(self, rest: str, context: TaskContext) -> bytes:
        """Allocate so much, and keep it until somebody looks."""
        block = b"x" * int(rest)
        time.sleep(60)
        return block[:1]

    def allocate_in_child(self, rest: str, context: TaskContext) -> bytes:
        program = f"import time; x = b'x' * {rest}; time.sleep(60)"
        return str(subprocess.run([sys.executable, "-S", "-c", program]).returncode).encode()

    def fork_bomb(self, rest: str, context: TaskContext) -> bytes:
        """Start so many processes, or as many as one may; answer how many."""
        for count in range(int(rest)):
            try:
                if os.fork() == 0:
                    time.sleep(600)
                    os._exit(0)
            except BlockingIOError:
                return str(count).encode()
        return rest.encode()

    def fill(self, rest: str, context: TaskContext) -> bytes:
        Path("filled").write_bytes(os.urandom(int(rest)))
        time.sleep(60)
        return b""

    def open_files(self, rest: str, context: TaskContext) -> bytes:
        files = [open("/dev/null") for _ in range(int(rest))]  # noqa: SIM115
        return str(len(files)).encode()

    def segfault(self, rest: str, context: TaskContext) -> bytes:
        ctypes.string_at(0)
        return b""

    def until(self, rest: str, context: TaskContext) -> bytes:
        """Run until the file is there."""
        while not Path(rest).exists():
            time.sleep(0.005)
        return rest.encode()

    def until_cancelled(self, rest: str, context: TaskContext) -> bytes:
        while not context.cancelled:
            time.sleep(0.005)
        return b"cancelled"

    def environment(self, rest: str, context: TaskContext) -> bytes:
        return os.environ.get(rest, "").encode()

    def multiprocess(self, rest: str, context: TaskContext) -> bytes:
        """Use processes and a manager's sockets, as numerical code does."""
        fork = multiprocessing.get_context("fork")
        with fork.Pool(2) as pool, fork.Manager() as shared:
            kept = shared.list(pool.map(square, range(4)))
            return str(list(kept)).encode()

    def read(self, rest: str, context: TaskContext) -> bytes:
        return Path(rest).read_bytes()

    def list(self, rest: str, context: TaskContext) -> bytes:
        return str(os.listdir(rest)).encode()

    def write(self, rest: str, context: TaskContext) -> bytes:
        return b"written" if Path(rest).write_bytes(b"x") else b""

    def whoami(self, rest: str, context: TaskContext) -> bytes:
        return f"{os.getuid()} {os.getgid()}".encode()

    def daemon(self, rest: str, context: TaskContext) -> bytes:
        """Leave a process behind as a daemon does: two forks, a new session, no environment."""
        program = (
            "import os, time\n"
            "if os.fork(): os._exit(0)\n"
            "os.setsid()\n"
            "if os.fork(): os._exit(0)\n"
            f"open({rest!r} + '.new', 'w').write(str(os.getpid()))\n"
            f"os.rename({rest!r} + '.new', {rest!r})\n"
            "time.sleep(600)\n"
        )
        subprocess.run([sys.executable, "-S", "-E", "-c", program], env={}, check=True)
        return b""


class RefusesToEnter(FlameService):
    def on_session_enter(self, context: SessionContext) -> None:
        raise RuntimeError("no model here")


class Tidy(Obedient):
    """Writes a file when it leaves."""

    def on_session_enter(self, context: SessionContext) -> None:
        self.path = Path((context.common_data or b"").decode())

    def on_session_leave(self) -> None:
        self.path.write_text("left")


class Waits(Tidy):
    """Enters when it is let in: by a file beside the one that it writes."""

    def on_session_enter(self, context: SessionContext) -> None:
        super().on_session_enter(context)
        while not self.path.with_name("open").exists():
            time.sleep(0.005)
