"""The work of the benchmarks: services, payloads, and runs whose every result is checked."""

import random
import time
from collections import deque

import flame

BUSY_BYTES = 8  # of nanoseconds, behind the answer of a service that measures itself


class Reverse(flame.FlameService):
    """A no-op that still has to look at its input: answers it reversed."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        return context.input[::-1] if context.input is not None else None


class Sleep(flame.FlameService):
    """Sleeps for the microseconds in the first four bytes.

    Answers as :class:`Reverse`, with the nanoseconds that it was really busy in eight bytes more: a
    sleep takes longer than asked for, and that is not Flame's time.
    """

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        begin = time.perf_counter_ns()
        assert context.input is not None
        time.sleep(int.from_bytes(context.input[:4], "little") / 1e6)
        answer = context.input[::-1]
        return answer + (time.perf_counter_ns() - begin).to_bytes(BUSY_BYTES, "little")


class Spin(flame.FlameService):
    """Keeps a core busy for the microseconds in the first four bytes; answers as :class:`Sleep`."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        begin = time.perf_counter_ns()
        assert context.input is not None
        end = begin + int.from_bytes(context.input[:4], "little") * 1000
        while time.perf_counter_ns() < end:
            pass
        answer = context.input[::-1]
        return answer + (time.perf_counter_ns() - begin).to_bytes(BUSY_BYTES, "little")


class Payloads:
    """Random payloads, none twice (beyond eight bytes, for practical purposes)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def make(self, count: int, size: int = 16, prefix: bytes = b"") -> list[bytes]:
        more = size - len(prefix)
        return [prefix + self._random.randbytes(more) for _ in range(count)]


def bulk(session: flame.Session, payloads: list[bytes]) -> float:
    """Submit all, take all; seconds from the first submit to the last result."""
    run = session.run
    begin = time.perf_counter()
    futures = [run(payload) for payload in payloads]
    outputs = [future.result() for future in futures]
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


def busy(session: flame.Session, payloads: list[bytes]) -> tuple[float, float]:
    """As :func:`bulk`, of a service that says how long it was busy: (busy, elapsed) seconds."""
    begin = time.perf_counter()
    futures = [session.run(payload) for payload in payloads]
    answers = [future.result() or b"" for future in futures]
    elapsed = time.perf_counter() - begin
    check(payloads, [answer[:-BUSY_BYTES] for answer in answers])
    spent = sum(int.from_bytes(answer[-BUSY_BYTES:], "little") for answer in answers)
    return spent / 1e9, elapsed


def closed_loop(session: flame.Session, payloads: list[bytes], outstanding: int) -> float:
    """Keep so many outstanding; seconds from the first submit to the last result."""
    run = session.run
    outputs: list[bytes | None] = []
    window: deque[flame.Future] = deque()
    begin = time.perf_counter()
    for payload in payloads:
        if len(window) == outstanding:
            outputs.append(window.popleft().result())
        window.append(run(payload))
    outputs.extend(future.result() for future in window)
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


def round_trips(session: flame.Session, payloads: list[bytes]) -> list[float]:
    """One call at a time; the sorted milliseconds."""
    times = []
    outputs = []
    for payload in payloads:
        begin = time.perf_counter()
        outputs.append(session.invoke(payload))
        times.append((time.perf_counter() - begin) * 1000)
    check(payloads, outputs)
    return sorted(times)


def check(payloads: list[bytes], outputs: list[bytes | None]) -> None:
    """Every output is its input reversed.

    Raises:
        AssertionError: One is not; the message says which.
    """
    assert len(outputs) == len(payloads)
    for index, (payload, output) in enumerate(zip(payloads, outputs, strict=True)):
        assert output == payload[::-1], f"task {index}: {payload!r:.60} gave {output!r:.60}"
