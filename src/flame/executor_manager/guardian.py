"""The executor manager's side of its guardian: start it, talk to it, start it again."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flame.executor_manager import guardian_process

log = logging.getLogger(__name__)

ORPHAN_PAUSE = 0.02  # seconds between looks for orphans

#: (pid, wait status); the status is None when it was lost with the guardian.
OnExit = Callable[[int, int | None], None]


class GuardianLost(Exception):
    """The guardian died before it answered; a new one is being started."""


class Guardian:
    """A running guardian process. Start it before gRPC has threads; it forks for us afterwards.

    Attributes:
        pid: Of the guardian itself.

    Args:
        parents: Control groups to remove, and those in them, when this process is gone.
    """

    def __init__(self, on_exit: OnExit, parents: Sequence[str] = ()) -> None:
        self._on_exit = on_exit
        #: Called with the pid of a zygote from which executors can be forked.
        self.on_zygote_ready: Callable[[int], None] = lambda _: None
        self._parents = list(parents)
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._numbers = 0
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._children: set[int] = set()
        self._closed = False
        self._orphans: asyncio.Task[None] | None = None
        self._started = 0.0
        self._running = asyncio.Event()

    @property
    def pid(self) -> int:
        """The guardian's own pid; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start the process; it is ready for requests at once, as they wait in its socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian_process.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at a terminal is not for it
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        self._started = self._loop.time()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        self._socket = ours
        ours.send(json.dumps({"parents": self._parents}).encode())
        self._loop.add_reader(ours, self._readable)
        self._running.set()

    async def spawn(
        self,
        argv: Sequence[str],
        env: dict[str, str],
        cwd: str,
        fds: Sequence[int],
        confinement: Mapping[str, Any],
    ) -> int:
        """Start a process with ``fds`` as its control socket, stdout and stderr; return its pid.

        ``confinement`` is what the guardian does to it before it runs ``argv``: see there.

        Raises:
            GuardianLost: The guardian died meanwhile.
            OSError: The request could not be sent: the environment is over 192 KiB, for one.
        """
        request = {"argv": list(argv), "env": env, "cwd": cwd, **confinement}
        return await self._ask({"spawn": self._number(), **request}, fds)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _ask(self, request: Mapping[str, Any], fds: Sequence[int]) -> int:
        await self._running.wait()
        if self._socket is None:
            raise GuardianLost("the guardian process died")
        number = request.get("spawn") or request["fork"]
        answer: asyncio.Future[int] = self._loop.create_future()
        self._spawning[number] = answer
        data = json.dumps(request).encode()
        if len(data) > guardian_process.MAX_MESSAGE:
            raise OSError(
                f"the environment and arguments take {len(data)} bytes; "
                f"at most {guardian_process.MAX_MESSAGE} are allowed"
            )
        try:
            socket.send_fds(self._socket, [data], list(fds))
            return await answer
        finally:
            self._spawning.pop(number, None)

    async def fork(self, zygote: int, fds: Sequence[int], groups: Sequence[str]) -> int:
        """Have a zygote fork an executor with ``fds`` as for :meth:`spawn`.

        Returns its pid; 0 if the zygote cannot.

        Raises:
            GuardianLost: The guardian died meanwhile.
            OSError: The request could not be sent.
        """
        return await self._ask({"fork": self._number(), "zygote": zygote, "groups": groups}, fds)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process that :meth:`spawn` started; nothing if it has ended."""
        if self._socket is None or pid not in self._children:
            return
        try:
            self._socket.send(json.dumps({"kill": pid, "signal": int(number)}).encode())
        except OSError as error:
            log.warning("guardian-kill-failed pid=%s error=%s", pid, error)

    def _readable(self) -> None:
        assert self._socket is not None  # noqa: S101 - the reader is removed with the socket
        while True:
            try:
                data = self._socket.recv(guardian_process.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lost()
                return
            self._received(json.loads(data))

    def _received(self, message: dict[str, Any]) -> None:
        if "spawned" in message:
            pid = message["pid"]
            if pid:
                self._children.add(pid)
            answer = self._spawning.get(message["spawned"])
            if answer is not None and not answer.done():
                answer.set_result(pid)
        elif "ready" in message:
            self._loop.call_soon(self.on_zygote_ready, message["ready"])
        else:
            self._children.discard(message["exited"])
            # Through the loop, so that whoever awaited the spawn learns of the pid first.
            self._loop.call_soon(self._on_exit, message["exited"], message["status"])

    def _lost(self) -> None:
        """The guardian is gone; its executors die of their parent-death signal."""
        self._disconnect()
        process, self._process = self._process, None
        if self._closed:
            return
        status = process.wait() if process is not None else None
        log.error("guardian-lost status=%s executors=%s", status, len(self._children))
        children, self._children = self._children, set()
        if self._loop.time() - self._started > 1.0:
            self.start()
        else:  # it cannot live here; trying without a pause would only burn the processor
            self._loop.call_later(1.0, self._start_again)
        if self._orphans is None or self._orphans.done():
            self._orphans = self._loop.create_task(self._end_orphans(), name="guardian:orphans")
        for answer in self._spawning.values():
            if not answer.done():
                answer.set_exception(GuardianLost("the guardian process died"))
        for pid in children:
            self._loop.call_soon(self._on_exit, pid, None)

    def _start_again(self) -> None:
        if not self._closed and self._process is None:
            self.start()

    async def _end_orphans(self) -> None:
        """Kill and reap what fell to this process, a subreaper, when the guardian died."""
        while guardian_process.kill_leftovers(os.getpid(), {self.pid}):
            guardian_process.reap({self.pid})
            await asyncio.sleep(ORPHAN_PAUSE)

    def _disconnect(self) -> None:
        self._running.clear()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Let it kill whatever still runs, and wait until it has."""
        self._closed = True
        self._disconnect()
        if self._orphans is not None:
            self._orphans.cancel()
        if self._process is not None:
            self._process.wait()
            self._process = None
