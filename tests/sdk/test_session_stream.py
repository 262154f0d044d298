"""The session stream: no I/O, no threads; what it would send, and what becomes of what arrives."""

from collections.abc import Sequence

import pytest

from flame.model.errors import (
    FlameError,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    TaskCancelled,
    TaskFailed,
    TaskLost,
    WrongState,
)
from flame.model.specs import EventCode, TaskLimits, TaskState
from flame.sdk.future import PENDING, Future, LimitedFuture, resolve
from flame.sdk.session_stream import OUTCOME_RETURN, SessionStream, State
from flame.wire import frames
from flame.wire.batches import pack_failures

PLENTY = 1 << 40


class Owner:
    def request_cancel(self, future: Future) -> None: ...

    def may_wait(self) -> bool:
        return False


class Harness:
    """A stream, the tasks that were put into it, and the manager's side of the conversation."""

    def __init__(self, *, position: int | None = 0, credit: int = PLENTY) -> None:
        self.stream = SessionStream("s", resolve, position=position)
        self.futures: list[Future] = []
        self.alias = 0
        self.stream.want()
        if position is not None:
            self.attach(credit=credit)

    def attach(
        self, *, submitted: int = 0, credit: int = PLENTY, closed: bool = False, log_end: int = 0
    ) -> frames.Attach:
        assert self.stream.state is State.WANTED
        self.alias += 1
        frame = self.stream.attach_frame(self.alias)
        self.stream.attached(
            frames.Attached(
                alias=self.alias,
                submitted=submitted,
                submit_credit=credit,
                closed=closed,
                log_end=log_end,
            )
        )
        return frame.attach

    def run(self, *inputs: bytes | None) -> list[Future]:
        futures = [Future(Owner(), data) for data in inputs]
        self.stream.pile.items.extend(futures)
        self.futures += futures
        return futures

    def sent(self) -> list[frames.ClientFrame]:
        found = []
        while (frame := self.stream.next_frame()) is not None:
            found.append(frame)
        return found

    def submits(self) -> list[tuple[int, list[bytes]]]:
        return [(f.submit.first_number, list(f.submit.inputs)) for f in self.sent()]

    def outcomes(
        self,
        position: int,
        results: dict[int, bytes | None],
        failures: dict[int, tuple[TaskState, int, str]] | None = None,
    ) -> None:
        ids = list(results)
        absent = [index for index, value in enumerate(results.values()) if value is None]
        by_index = {ids.index(task): failure for task, failure in (failures or {}).items()}
        indexes, messages = pack_failures(by_index)
        self.stream.outcomes(
            frames.Outcomes(
                alias=self.alias,
                position=position,
                task_ids=ids,
                outputs=[value or b"" for value in results.values()],
                absent=absent,
                unsuccessful=indexes,
                failures=messages,
            )
        )


def outputs(futures: Sequence[Future]) -> list[object]:
    return [future._outcome for future in futures]


def error_of(future: Future) -> FlameError:
    error = future.exception()
    assert error is not None
    return error


# --- submitting --------------------------------------------------------------------------------


def test_what_has_piled_up_goes_out_in_one_frame() -> None:
    h = Harness()
    h.run(b"a", None, b"c")
    [frame] = h.sent()
    assert list(frame.submit.inputs) == [b"a", b"", b"c"]
    assert list(frame.submit.absent) == [1]
    assert frame.submit.first_number == 0


def test_a_frame_has_at_most_2048_tasks_and_numbers_go_on_in_the_next() -> None:
    h = Harness()
    h.run(*[b"x"] * 5000)
    assert [(first, len(inputs)) for first, inputs in h.submits()] == [
        (0, 2048),
        (2048, 2048),
        (4096, 904),
    ]


def test_a_frame_has_at_most_1_mib_except_for_a_single_larger_task() -> None:
    h = Harness()
    half = b"x" * (512 * 1024)
    h.run(half, half, half, b"y" * (3 * 1024 * 1024), b"z")
    assert [len(inputs) for _, inputs in h.submits()] == [2, 1, 1, 1]


def test_nothing_is_sent_beyond_the_credit() -> None:
    h = Harness(credit=3 * (64 + 1))
    h.run(*[b"x"] * 5)
    assert [len(inputs) for _, inputs in h.submits()] == [3]
    assert len(h.stream.pile) == 2
    h.stream.granted(65)
    assert h.submits() == [(3, [b"x"])]


def test_order_survives_what_is_put_back_for_want_of_credit() -> None:
    h = Harness(credit=64 + 1)
    h.run(b"0", b"1", b"2")
    sent = h.submits()
    for _ in range(2):
        h.stream.granted(65)
        sent += h.submits()
    assert sent == [(0, [b"0"]), (1, [b"1"]), (2, [b"2"])]


def test_nothing_is_sent_before_the_session_is_attached() -> None:
    stream = SessionStream("s", resolve)
    stream.pile.items.append(Future(Owner(), b"x"))
    assert stream.next_frame() is None
    stream.want()
    assert stream.next_frame() is None


def test_an_accepted_task_has_an_id_and_no_outcome_yet() -> None:
    h = Harness()
    a, b = h.run(b"a", b"b")
    h.sent()
    h.stream.accepted(0, 2, 11)
    assert (a.task_id, b.task_id) == (11, 12)
    assert outputs([a, b]) == [PENDING, PENDING]
    assert h.stream.outstanding == 2
    assert h.stream.unacknowledged == 0


def test_an_acceptance_may_cover_a_part_of_a_frame_or_several() -> None:
    h = Harness()
    h.run(*[b"x"] * 2048, *[b"y"] * 10)
    h.sent()
    h.stream.accepted(0, 1000, 1)
    h.stream.accepted(1000, 1058, 5001)
    assert [h.futures[i].task_id for i in (0, 999, 1000, 2047, 2057)] == [1, 1000, 5001, 6048, 6058]


# --- outcomes ----------------------------------------------------------------------------------


def accepted(*inputs: bytes | None) -> tuple[Harness, list[Future]]:
    h = Harness()
    futures = h.run(*inputs)
    h.sent()
    h.stream.accepted(0, len(inputs), 1)
    return h, futures


def test_outcomes_resolve_futures_in_any_order() -> None:
    h, (a, b, c) = accepted(b"a", b"b", b"c")
    h.outcomes(0, {3: b"C", 1: None})
    assert outputs([a, b, c]) == [None, PENDING, b"C"]
    h.outcomes(2, {2: b""})
    assert outputs([b]) == [b""]
    assert h.stream.outstanding == 0


def test_each_way_to_not_succeed_is_an_error_of_its_own() -> None:
    h, futures = accepted(b"a", b"b", b"c", b"d")
    h.outcomes(
        0,
        {1: None, 2: None, 3: None, 4: b"fine"},
        {
            1: (TaskState.FAILED, EventCode.FAILED, "Traceback: boom"),
            2: (TaskState.CANCELLED, EventCode.CANCELLED, ""),
            3: (TaskState.FAILED, EventCode.LOST, "its executors died"),
        },
    )
    failed, cancelled, lost = (error_of(future) for future in futures[:3])
    assert isinstance(failed, TaskFailed)
    assert "boom" in str(failed)
    assert (failed.session, failed.task, failed.code) == ("s", 1, 3)
    assert isinstance(cancelled, TaskCancelled)
    assert isinstance(lost, TaskLost)
    assert futures[3].result() == b"fine"


def test_outcomes_of_tasks_that_others_submitted_are_passed_over() -> None:
    h, (a,) = accepted(b"a")
    h.outcomes(0, {77: b"theirs", 1: b"ours"})
    assert a.result() == b"ours"


def test_outcome_credit_is_given_back_with_the_position_taken() -> None:
    h, _ = accepted(b"a", b"b")
    h.outcomes(0, {1: b"x" * 100})
    assert h.sent() == []
    frame = h.stream.credit_frame()
    assert frame is not None
    assert (frame.credit.position, frame.credit.bytes) == (1, 164)
    h.outcomes(1, {2: b"x" * OUTCOME_RETURN})
    [frame] = h.sent()
    assert (frame.credit.position, frame.credit.bytes) == (2, OUTCOME_RETURN + 64)


# --- lost connections --------------------------------------------------------------------------


def test_exactly_what_was_not_accepted_is_sent_again_under_its_numbers() -> None:
    h = Harness()
    h.run(*[b"a"] * 2048, *[b"b"] * 2048, b"c")
    h.sent()
    h.stream.accepted(0, 2048, 1)
    h.outcomes(0, {1: b"A"})
    h.stream.disconnected()
    h.run(b"d")
    attach = h.attach(submitted=2048)
    assert attach.position == 1
    assert [(first, len(inputs)) for first, inputs in h.submits()] == [
        (2048, 2048),
        (4096, 1),
        (4097, 1),
    ]


def test_a_reconnection_keeps_the_submitter() -> None:
    h = Harness()
    h.run(b"a")
    h.sent()
    submitter = h.stream.attach_frame(2).attach.submitter
    h.stream.disconnected()
    assert h.attach().submitter == submitter
    assert len(submitter) == 16


def test_an_outcome_may_come_before_the_acceptance_that_a_lost_connection_took() -> None:
    """The task was stored and ran; we learn its id only from the repeated submit."""
    h = Harness()
    (a,) = h.run(b"a")
    h.sent()
    h.stream.disconnected()
    h.attach(submitted=1, log_end=1)
    h.outcomes(0, {1: b"A"})
    assert outputs([a]) == [PENDING]
    h.sent()
    h.stream.accepted(0, 1, 1)
    assert a.result() == b"A"


def test_what_the_manager_has_already_costs_credit_until_it_is_answered_again() -> None:
    h = Harness(credit=2 * 65)
    h.run(b"a", b"b")
    h.sent()
    h.stream.disconnected()
    h.attach(submitted=1, credit=65)
    assert h.submits() == [(0, [b"a"])]
    h.stream.accepted(0, 1, 1)
    h.stream.granted(65)
    assert h.submits() == [(1, [b"b"])]


def test_cancels_without_an_answer_are_sent_again() -> None:
    h, (a,) = accepted(b"a")
    h.stream.cancels.ask(a)
    [frame] = h.sent()
    h.stream.disconnected()
    h.attach(submitted=1)
    [again] = h.sent()
    assert list(again.cancel.task_ids) == list(frame.cancel.task_ids) == [1]
    h.stream.cancel_done(again.cancel.request)
    h.stream.disconnected()
    h.attach(submitted=1)
    assert h.sent() == []


def test_a_cancel_waits_until_its_task_has_an_id() -> None:
    h = Harness()
    (a,) = h.run(b"a")
    h.stream.cancels.ask(a)
    assert [frame.WhichOneof("frame") for frame in h.sent()] == ["submit"]
    h.stream.accepted(0, 1, 9)
    [frame] = h.sent()
    assert list(frame.cancel.task_ids) == [9]


def test_a_cancel_of_a_task_that_a_restart_lost_is_not_sent_again() -> None:
    """The id is somebody else's in the emptied session."""
    h, (a,) = accepted(b"a")
    h.stream.cancels.ask(a)
    assert len(h.sent()) == 1
    h.stream.disconnected()
    h.attach(submitted=0)
    h.attach(submitted=0)
    assert h.sent() == []


def test_a_session_in_memory_that_a_restart_emptied_says_so_and_goes_on() -> None:
    h, (a,) = accepted(b"a")
    h.outcomes(0, {77: b"x", 78: b"y"})
    (b,) = h.run(b"b")
    h.sent()
    h.stream.disconnected()
    h.attach(submitted=0, log_end=0)
    assert isinstance(error_of(a), TaskLost)
    assert h.stream.state is State.WANTED
    attach = h.attach(submitted=0)
    assert attach.position == 0
    assert h.submits() == [(0, [b"b"])]
    h.stream.accepted(0, 1, 1)
    h.outcomes(0, {1: b"B"})
    assert b.result() == b"B"


def test_a_log_that_is_shorter_than_what_we_had_is_asked_for_its_end() -> None:
    h, _ = accepted(b"a")
    h.outcomes(0, {1: b"A"})
    h.stream.disconnected()
    h.stream.attach_frame(2)
    h.stream.attach_refused(InvalidRequest("outcomes from position 1 were asked for; it has 0"))
    attach = h.attach(log_end=0, submitted=0)
    assert not attach.subscribe
    assert h.stream.state is State.WANTED


# --- refusals ----------------------------------------------------------------------------------


def test_a_refused_batch_fails_its_futures_and_the_rest_goes_on_as_a_new_submitter() -> None:
    h = Harness()
    h.run(*[b"a"] * 2048, *[b"b"] * 2048, *[b"c"] * 2048)
    first_submitter = h.stream.attach_frame(1).attach.submitter
    h.stream.state = State.ATTACHED
    h.sent()
    h.stream.accepted(0, 2048, 1)
    h.stream.refused(2048, 2048, ResourceExhausted("the disk is full"))
    assert h.sent() == []  # the third batch has no answer yet
    h.stream.refused(4096, 2048, InvalidRequest("number 4096 where 2048 is next"))
    assert h.sent() == []
    attach = h.attach()
    assert attach.submitter != first_submitter
    assert [(first, len(inputs)) for first, inputs in h.submits()] == [(0, 2048)]
    h.stream.accepted(0, 2048, 2049)
    assert [h.futures[i].task_id for i in (0, 2048, 4096)] == [1, None, 2049]
    assert isinstance(error_of(h.futures[2048]), ResourceExhausted)
    assert not h.futures[4096].done()
    count, first = h.stream.take_refusals()
    assert (count, str(first)) == (2048, "the disk is full")
    assert h.stream.take_refusals() == (0, None)


def test_what_was_refused_is_settled_even_if_the_connection_is_lost_before_the_last_answer() -> (
    None
):
    h = Harness()
    h.run(*[b"a"] * 2048, *[b"b"] * 2048, *[b"c"] * 2048)
    h.sent()
    h.stream.refused(2048, 2048, ResourceExhausted("the disk is full"))
    h.stream.disconnected()
    h.attach(submitted=2048)
    assert [(first, len(inputs)) for first, inputs in h.submits()] == [(0, 2048)]
    h.stream.accepted(0, 2048, 1)
    assert h.sent() == []
    h.attach()
    assert [(first, inputs[0]) for first, inputs in h.submits()] == [(0, b"c")]


def test_a_closed_session_refuses_new_tasks_but_its_outcomes_still_come() -> None:
    h, (a,) = accepted(b"a")
    (b,) = h.run(b"b")
    h.sent()
    h.stream.refused(1, 1, WrongState("session 's' is closed"))
    (c,) = h.run(b"c")
    h.sent()
    assert isinstance(error_of(b), WrongState)
    assert isinstance(error_of(c), WrongState)
    h.outcomes(0, {1: b"A"})
    assert a.result() == b"A"


def test_when_the_session_is_closed_nothing_stays_pending() -> None:
    h, (a, b) = accepted(b"a", b"b")
    (c,) = h.run(b"c")
    h.outcomes(0, {1: b"A"})
    h.stream.session_closed()
    assert a.result() == b"A"
    assert isinstance(error_of(b), TaskCancelled)
    assert isinstance(error_of(c), WrongState)
    assert h.stream.state is State.ENDED


def test_a_refused_attachment_ends_the_stream_with_its_reason() -> None:
    h = Harness()
    (a,) = h.run(b"a")
    h.sent()
    h.stream.disconnected()
    h.stream.attach_frame(2)
    error = WrongState("no")
    h.stream.attach_refused(error)
    assert error_of(a) is error
    assert h.stream.error is error
    assert h.stream.take_refusals() == (1, error)


# --- waiting -----------------------------------------------------------------------------------


def test_settled_means_each_task_so_far_is_stored_or_refused() -> None:
    h = Harness()
    h.run(b"a", b"b")
    told: list[str] = []
    h.stream.when_settled(lambda: told.append("settled"))
    h.run(b"c")
    h.sent()
    h.stream.accepted(0, 1, 1)
    assert told == []
    h.stream.accepted(1, 2, 2)
    assert told == ["settled"]


def test_empty_means_each_task_has_its_outcome() -> None:
    h, _ = accepted(b"a")
    told: list[str] = []
    h.stream.when_empty(lambda: told.append("empty"))
    assert told == []
    h.outcomes(0, {1: b"A"})
    assert told == ["empty"]
    h.stream.when_empty(lambda: told.append("still empty"))
    assert told == ["empty", "still empty"]


def test_a_session_with_a_past_is_joined_at_the_end_of_its_log() -> None:
    h = Harness(position=None)
    asked = h.attach(log_end=500)
    assert not asked.subscribe
    joined = h.attach(log_end=500)
    assert joined.subscribe
    assert joined.position == 500


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 2049])
def test_every_task_is_sent_once(size: int) -> None:
    h = Harness()
    h.run(*[index.to_bytes(4, "little") for index in range(size)])
    sent = [data for _, inputs in h.submits() for data in inputs]
    assert sent == [index.to_bytes(4, "little") for index in range(size)]


def test_limits_of_their_own_travel_with_the_tasks_that_have_some_also_when_sent_again() -> None:
    h = Harness()
    h.run(b"a")
    h.stream.submitter.limited = True
    h.stream.pile.items.append(LimitedFuture(Owner(), b"b", TaskLimits(5, 0)))
    h.run(b"c")
    h.stream.pile.items.append(LimitedFuture(Owner(), b"d", TaskLimits(0, 7)))
    for _ in range(2):
        (frame,) = h.sent()
        submit = frame.submit
        assert list(submit.inputs) == [b"a", b"b", b"c", b"d"]
        assert list(submit.limited) == [1, 3]
        assert (list(submit.timeout_ms), list(submit.deadline_ms)) == ([5, 0], [0, 7])
        h.stream.disconnected()
        h.attach()


def state_of(stream: SessionStream) -> State:
    return stream.state


def attaching_early() -> SessionStream:
    stream = SessionStream("s", resolve)
    stream.is_early = True
    stream.want()
    stream.attach_frame(1)
    return stream


def test_an_attach_that_came_before_its_session_waits_for_it() -> None:
    stream = attaching_early()
    stream.attach_refused(NotFound("there is no session 's'"))
    assert state_of(stream) is State.DETACHED
    stream.created()
    assert state_of(stream) is State.WANTED
    stream.attach_frame(2)
    stream.attach_refused(NotFound("there is no session 's'"))
    assert state_of(stream) is State.ENDED


def test_a_refusal_that_comes_after_the_session_did_is_no_end() -> None:
    stream = attaching_early()
    stream.created()
    stream.attach_refused(NotFound("there is no session 's'"))
    assert state_of(stream) is State.WANTED


def test_an_early_attach_that_a_lost_connection_took_is_not_repeated_early() -> None:
    stream = attaching_early()
    stream.disconnected()
    assert state_of(stream) is State.DETACHED
    stream.created()
    assert state_of(stream) is State.WANTED
