"""Wires that anybody may cut: TCP proxies on loopback addresses, between the session manager and the rest.

    the clients ──▶ 127.0.0.2 ─┐
                               ├──▶ the session manager on 127.0.0.1, on the same ports
    the node    ──▶ 127.0.0.3 ─┘

What is cut is kept back, as TCP would send it again and again, and so is the end of a connection. A
new connection is made by the kernel and says nothing. Beside that a wire can be slow, tear its connections
in the middle of a message, and forget one side of them.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

CLIENTS, NODE = "clients", "node"
ADDRESSES = {CLIENTS: "127.0.0.2", NODE: "127.0.0.3"}
MANAGER = "127.0.0.1"
CHUNK = 64 * 1024
TRIES = 100  # to find ports that are free on all addresses
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no farewell


class _Link:
    """One connection through a wire."""

    def __init__(self, outer: socket.socket, inner: socket.socket) -> None:
        self.ends = {"outer": outer, "inner": inner}
        self.forgotten = False
        self.parts: list[asyncio.Task[None]] = []

    def reset(self, side: str) -> None:
        """End one side of it without a farewell."""
        end = self.ends[side]
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.close()

    def close(self) -> None:
        for end in self.ends.values():
            end.close()


class _Wire:
    """What all connections of one wire have in common. It lives on the proxy's loop."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.inwards, self.outwards = asyncio.Event(), asyncio.Event()
        self.inwards.set()
        self.outwards.set()
        self.delay = 0.0
        self.tears = 0  # so many of the next messages are torn
        self.links: set[_Link] = set()

    async def carry(self, outer: socket.socket, port: int) -> None:
        """Carry one connection to the session manager."""
        loop = asyncio.get_running_loop()
        await self.inwards.wait()
        inner = socket.socket()
        inner.setblocking(False)
        try:
            await loop.sock_connect(inner, (MANAGER, port))
        except OSError:
            inner.close()
            outer.close()
            return
        for end in (outer, inner):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(outer, inner)
        self.links.add(link)
        link.parts = [
            loop.create_task(self._pump(link, outer, inner, self.inwards)),
            loop.create_task(self._pump(link, inner, outer, self.outwards)),
        ]
        try:
            await asyncio.wait(link.parts, return_when=asyncio.FIRST_COMPLETED)
            if link.forgotten:
                await asyncio.Event().wait()  # nobody says anything, until the wire is closed
        finally:
            for part in link.parts:
                part.cancel()
            self.links.discard(link)
            link.close()

    async def _pump(
        self, link: _Link, source: socket.socket, sink: socket.socket, way: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                data = await loop.sock_recv(source, CHUNK)
                if self.delay:
                    await asyncio.sleep(self.delay * self.dice.uniform(0.5, 1.5))
                await way.wait()
                if not data:
                    return
                if self.tears:
                    self.tears -= 1
                    await loop.sock_sendall(sink, data[: self.dice.randrange(len(data))])
                    link.reset("outer")
                    link.reset("inner")
                    return
                await loop.sock_sendall(sink, data)
        await way.wait()


class Proxies:
    """The wires, on a thread of their own.

    Attributes:
        port: Where the session manager has to listen, on 127.0.0.1; the framed port is the next one.
    """

    def __init__(self, dice: random.Random) -> None:
        self.port, self._listeners = _listeners(dice)
        self._loop = asyncio.new_event_loop()
        self._wires = {name: _Wire(dice) for name in ADDRESSES}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy")
        self._thread.start()
        for name, number, listener in self._listeners:
            self._do(lambda *args: self._start(self._accept(*args)), name, number, listener)

    def cut(self, wire: str, *, outwards: bool = True, inwards: bool = True) -> None:
        """Keep back what goes to (``inwards``) or comes from the session manager on a wire."""
        ways = self._wires[wire]
        if inwards:
            self._do(ways.inwards.clear)
        if outwards:
            self._do(ways.outwards.clear)

    def heal(self, wire: str) -> None:
        """Deliver again, without a delay."""
        ways = self._wires[wire]
        self._do(setattr, ways, "delay", 0.0)
        self._do(ways.inwards.set)
        self._do(ways.outwards.set)

    def slow(self, wire: str, delay: float) -> None:
        """Have everything take so many seconds, more or less, each way."""
        self._do(setattr, self._wires[wire], "delay", delay)

    def tear(self, wire: str, count: int) -> None:
        """Break connections, each in the middle of the next thing that it carries."""
        self._do(setattr, self._wires[wire], "tears", count)

    def forget(self, wire: str, side: str) -> None:
        """Reset one side of all connections (``outer`` or ``inner``); the other one is told nothing."""
        self._do(self._forget, wire, side)

    def close(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for _, _, listener in self._listeners:
            listener.close()
        self._loop.close()

    async def _accept(self, name: str, port: int, listener: socket.socket) -> None:
        while True:
            connection, _ = await self._loop.sock_accept(listener)
            connection.setblocking(False)
            self._start(self._wires[name].carry(connection, port))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, wire: str, side: str) -> None:
        for link in self._wires[wire].links:
            link.forgotten = True
            for part in link.parts:
                part.cancel()
            link.reset(side)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, act: Callable[..., object], *args: object) -> None:
        """Have something done on the loop, and wait for it."""
        done = threading.Event()

        def run() -> None:
            act(*args)
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10.0)


def _listeners(dice: random.Random) -> tuple[int, list[tuple[str, int, socket.socket]]]:
    """Listen on two ports, one after the other, that are free everywhere."""
    for _ in range(TRIES):
        first = dice.randrange(20_000, 32_000)
        made: list[tuple[str, int, socket.socket]] = []
        try:
            for number in (first, first + 1):
                with socket.socket() as probe:
                    probe.bind((MANAGER, number))
                for name, address in ADDRESSES.items():
                    listener = socket.socket()
                    made.append((name, number, listener))
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.setblocking(False)
                    listener.bind((address, number))
                    listener.listen(1024)
        except OSError:
            for _, _, listener in made:
                listener.close()
            continue
        return first, made
    raise OSError("no two ports are free on 127.0.0.1, 127.0.0.2 and 127.0.0.3")
