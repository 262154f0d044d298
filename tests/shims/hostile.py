"""Services that misbehave; the first argument says how. Those with ``frames`` speak frames otherwise."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

DAEMON = "import time; time.sleep(600)"


def question() -> bytes:
    """Read one and return its first word."""
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit()
    *_, length = line.split()
    if length != b"-":
        sys.stdin.buffer.read(int(length))
    return line.split()[0]


def answer(data: bytes) -> None:
    sys.stdout.buffer.write(b"OK %d\n%s" % (len(data), data))
    sys.stdout.buffer.flush()


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def serve(bad_task: Any) -> None:
    """Answer everything but tasks as one should."""
    while True:
        if question() == b"TASK":
            bad_task()
        else:
            answer(b"")


def fork_daemon() -> None:
    """Leave a process behind that is in no group or session of ours, and holds stdout open."""
    process = subprocess.Popen([sys.executable, "-S", "-c", DAEMON], start_new_session=True)
    process.returncode = 0  # nobody waits for it
    with open(os.environ["DAEMON_PID"], "a") as file:
        file.write(f"{process.pid}\n")


def fork_bomb() -> None:
    """Two of each, for ever."""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def fill_disk() -> None:
    with open("filler", "wb", buffering=0) as file:
        for _ in range(64):  # no more than a test should
            file.write(os.urandom(1024 * 1024))
    time.sleep(600)


def eat_memory() -> None:
    block = os.urandom(1024 * 1024)
    kept = [block * 8 for _ in range(64)]  # no more than a test should
    time.sleep(600)
    kept.clear()


def close_descriptors() -> None:
    os.closerange(0, 256)
    time.sleep(600)


def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answer(b"ignored")


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def deaf() -> None:
    """Never read stdin again."""
    answer_enter()
    time.sleep(600)


def answer_enter() -> None:
    question()
    answer(b"")


def flood() -> None:
    while True:
        write(bytes(1024 * 1024))


def two_gigabytes() -> None:
    write(b"OK 2147483648\n")
    flood()


def chatty() -> None:
    unasked = b"an answer that nobody asked for"
    write(b"OK 0\nOK %d\n%s" % (len(unasked), unasked))  # at once: nobody's turn is in between


def daemon_then(end: Any) -> None:
    fork_daemon()
    end()


def http(bad_answer: bytes) -> None:
    """Be healthy, let sessions enter, then answer a task like this for as long as anybody reads."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.environ["FLAME_HTTP_SOCKET"])
    server.listen()
    while True:
        connection = server.accept()[0]
        with connection:
            head = connection.recv(65536)
            if not head.startswith(b"POST /tasks"):
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                continue
            try:
                while True:
                    connection.sendall(bad_answer)
            except OSError:
                pass


def leave_hangs() -> None:
    while question() != b"LEAVE":
        answer(b"")
    time.sleep(600)


WAYS: dict[str, Callable[[], object]] = {
    "exits": lambda: sys.exit("no licence"),
    "enter hangs": lambda: time.sleep(600),
    "leave hangs": leave_hangs,
    "garbage": lambda: serve(lambda: write(b"Hello, I am not a frame\n")),
    "deaf": deaf,
    "two gigabytes": lambda: serve(two_gigabytes),
    "chatty": lambda: serve(chatty),
    "forks": lambda: serve(lambda: daemon_then(lambda: answer(b"done"))),
    "fork bomb": lambda: serve(fork_bomb),
    "fills its disk": lambda: serve(fill_disk),
    "eats memory": lambda: serve(eat_memory),
    "closes its descriptors": lambda: serve(close_descriptors),
    "ignores signals": lambda: serve(ignore_signals),
    "kills its parent": lambda: serve(kill_parent),
    "task floods": flood,
    "task forks": lambda: daemon_then(lambda: write(b"done")),
    "task floods stderr": lambda: (sys.stderr.write("x" * 10_000_000), sys.exit("the end")),
    "http garbage": lambda: http(b"Hello, I am no answer\n"),
    "http without end": lambda: http(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1024 * 1024)),
    "http 2 GB": lambda: http(b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n"),
}

if __name__ == "__main__":
    WAYS[sys.argv[1]]()
