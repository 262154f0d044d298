"""Which task wrote what."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.executor_manager.outbox import Finished, Outbox
from flame.executor_manager.task_output import ALWAYS, FIRST_AGAIN, FIRST_TASKS, SLOW, TaskOutput
from flame.model.logs import KEPT_HEAD, KEPT_TAIL, MOST_BYTES, Excerpt
from flame.wire import batches


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[tuple[int, int]]:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    out, err = (os.open(tmp_path / name, flags) for name in ("out", "err"))
    yield out, err
    os.close(out)
    os.close(err)


@pytest.fixture
def output(streams: tuple[int, int]) -> TaskOutput:
    output = TaskOutput(streams)
    output.begin()
    return output


def test_each_task_has_what_was_written_until_its_end(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    out, err = streams
    os.write(out, b"one")
    output.end_task(1)
    output.end_task(2)
    os.write(err, b"three")
    output.end_task(3)
    assert output.of == {1: (b"one", b""), 3: (b"", b"three")}


def test_what_a_session_wrote_before_its_first_task_is_no_tasks(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    os.write(streams[0], b"entered")
    output.begin()
    output.end_task(1)
    assert output.of == {}


def test_of_much_the_beginning_and_the_end_are_kept(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    written = b"first" + bytes(100_000) + b"last"
    os.write(streams[0], written)
    output.end_task(1)
    (kept, _) = output.of[1]
    assert kept.startswith(b"first")
    assert kept.endswith(b"last")
    left_out = len(written) - KEPT_HEAD - KEPT_TAIL
    assert b"\n... %d bytes left out ...\n" % left_out in kept
    assert len(kept) <= MOST_BYTES


def test_an_excerpt_made_in_pieces_is_the_same_as_of_the_whole(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    for size in (1, KEPT_HEAD, KEPT_HEAD + KEPT_TAIL, KEPT_HEAD + KEPT_TAIL + 1, 100_000):
        written = os.urandom(size)
        excerpt = Excerpt()
        for start in range(0, size, 7_777):
            excerpt.add(written[start : start + 7_777])
        os.write(streams[0], written)
        output.end_task(size)
        assert bytes(excerpt) == output.of[size][0]


def test_a_rotated_file_is_read_from_its_new_beginning(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    os.write(streams[0], bytes(1000))
    output.end_task(1)
    os.ftruncate(streams[0], 0)
    os.write(streams[0], b"new")
    output.end_task(2)
    assert output.of[2] == (b"new", b"")


def test_tasks_that_write_nothing_are_soon_asked_only_if_they_are_slow(output: TaskOutput) -> None:
    for task_id in range(FIRST_TASKS - 1):
        output.end_task(task_id)
    assert output.after == ALWAYS
    output.end_task(FIRST_TASKS)
    assert output.after == SLOW


def test_once_a_task_has_written_all_of_its_session_are_asked(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    for task_id in range(FIRST_TASKS):
        output.end_task(task_id)
    os.write(streams[1], b"a slow one's")
    output.end_task(100)
    for task_id in range(2 * FIRST_TASKS):
        output.end_task(task_id)
    assert output.after == ALWAYS
    assert output.of == {100: (b"", b"a slow one's")}
    output.begin()
    for task_id in range(FIRST_TASKS):
        output.end_task(task_id)
    assert output.after == SLOW  # another session's tasks may be quiet


def test_after_a_quiet_session_fewer_tasks_of_the_next_are_asked(output: TaskOutput) -> None:
    for task_id in range(FIRST_TASKS):
        output.end_task(task_id)
    output.begin()
    assert output.after == ALWAYS
    for task_id in range(FIRST_AGAIN):
        output.end_task(task_id)
    assert output.after == SLOW


def test_after_a_session_that_wrote_unseen_many_tasks_are_asked_again(
    output: TaskOutput, streams: tuple[int, int]
) -> None:
    for task_id in range(FIRST_TASKS):
        output.end_task(task_id)
    os.write(streams[0], b"a quick one's, without a word to Python")
    output.begin()
    for task_id in range(FIRST_TASKS - 1):
        output.end_task(task_id)
    assert output.after == ALWAYS


def test_a_service_that_closes_its_streams_goes_on(tmp_path: Path) -> None:
    out, err = (os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("out", "err"))
    output = TaskOutput((out, err))
    output.begin()
    os.close(out)
    os.close(err)
    output.end_task(1)
    assert output.of == {}


def test_nobody_is_asked_where_the_streams_are_no_files() -> None:
    reader, writer = os.pipe()
    output = TaskOutput((writer, writer))
    output.begin()
    assert output.after > 10**15
    os.close(reader)
    os.close(writer)


def test_logs_travel_with_their_tasks_results_and_count_for_the_size_of_frames() -> None:
    written = {2: (b"out", b"err"), 9: (b"of a task whose result is not here yet", b"")}
    finished: deque[Finished] = deque((task_id, 1, b"", 5, 7) for task_id in (1, 2, 3))
    batch = Outbox(1000).take(finished, written)
    assert batch is not None
    assert batches.unpack_logs(batch.frame.logged, batch.frame.logs) == {1: (b"out", b"err")}
    assert list(written) == [9]

    written = {task_id: (bytes(30_000), bytes(30_000)) for task_id in range(1, 101)}
    finished = deque((task_id, 1, b"", 5, 7) for task_id in range(1, 101))
    outbox = Outbox(1000)
    sizes = []
    while batch := outbox.take(finished, written):
        sizes.append(batch.frame.ByteSize())
    assert max(sizes) < 1_200_000
    assert len(sizes) == 6
    assert written == {}
