from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from flame.executor_manager.outbox import HIGH_WATER, Failed, Finished, Outbox
from flame.wire import frames

LIMIT = 1000


def finished(*outputs: bytes | Failed | None, attempt: int = 1) -> deque[Finished]:
    return deque((i, attempt, output, 5, 7) for i, output in enumerate(outputs, 1))


def test_nothing_finished_makes_no_frame() -> None:
    outbox = Outbox(LIMIT)
    assert outbox.take(deque()) is None
    assert outbox.next_unsent() is None


def test_what_has_piled_up_makes_one_frame() -> None:
    outbox = Outbox(LIMIT)
    batch = outbox.take(finished(b"a", None, Failed("why"), b""))
    assert batch is not None
    assert batch.frame == frames.Results(
        sequence=1,
        task_ids=[1, 2, 3, 4],
        outputs=[b"a", b"", b"", b""],
        absent=[1, 2],
        unsuccessful=[2],
        failures=[frames.Failure(state=3, code=3, message="why")],
    )
    assert (batch.elapsed_ns, batch.input_bytes) == (20, 28)


def test_attempts_are_told_when_one_is_not_the_first() -> None:
    batch = Outbox(LIMIT).take(finished(b"", attempt=2))
    assert batch is not None
    assert list(batch.frame.attempts) == [2]


def test_an_output_over_the_limit_is_a_failure_that_names_it() -> None:
    batch = Outbox(LIMIT).take(finished(bytes(LIMIT), bytes(LIMIT + 1)))
    assert batch is not None
    assert [len(output) for output in batch.frame.outputs] == [LIMIT, 0]
    assert list(batch.frame.unsuccessful) == [1]
    assert "1001 bytes; at most 1000" in batch.frame.failures[0].message


def test_a_frame_has_bounds_in_tasks_and_bytes() -> None:
    outbox = Outbox(frames.FRAME_BYTES * 2)
    many = finished(*[b""] * (frames.FRAME_TASKS + 1))
    sizes = []
    while (batch := outbox.take(many)) is not None:
        sizes.append(len(batch.task_ids))
    assert sizes == [frames.FRAME_TASKS, 1]
    large = finished(bytes(frames.FRAME_BYTES * 2), b"x", bytes(frames.FRAME_BYTES), b"y")
    sizes = []
    while (batch := outbox.take(large)) is not None:
        sizes.append(len(batch.task_ids))
    assert sizes == [1, 1, 1, 1]  # one larger than a frame travels alone


def test_results_are_kept_until_they_are_stored_and_sent_again_after_a_rewind() -> None:
    outbox = Outbox(LIMIT)
    for _ in range(3):
        outbox.take(finished(b"x"))
    sent = [outbox.next_unsent() for _ in range(4)]
    assert [frame and frame.results.sequence for frame in sent] == [1, 2, 3, None]
    outbox.stored(1)
    outbox.rewind()
    again = [outbox.next_unsent() for _ in range(3)]
    assert [frame and frame.results.sequence for frame in again] == [2, 3, None]
    outbox.stored(3)
    assert len(outbox) == 0


def test_too_much_unstored_says_that_it_is_full() -> None:
    outbox = Outbox(HIGH_WATER)
    outbox.take(finished(bytes(HIGH_WATER)))
    assert outbox.full
    outbox.stored(1)
    assert not outbox.full


@given(st.lists(st.sampled_from(["take", "send", "store", "rewind"]), max_size=60))
def test_every_result_goes_out_in_order_on_each_connection(steps: list[str]) -> None:
    outbox = Outbox(LIMIT)
    made = stored = 0
    expected = 1  # the sequence that goes out next
    for step in steps:
        if step == "take":
            outbox.take(finished(b"x"))
            made += 1
        elif step == "send":
            frame = outbox.next_unsent()
            assert (frame.results.sequence if frame else None) == (
                expected if expected <= made else None
            )
            expected += frame is not None
        elif step == "store" and stored < expected - 1:
            stored += 1
            outbox.stored(stored)
        elif step == "rewind":
            outbox.rewind()
            expected = stored + 1
    assert len(outbox) == made - stored
