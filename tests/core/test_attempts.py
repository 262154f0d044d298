"""Attempts: what is charged, what is not, when a task is tried again, and what its failure shows."""

import pytest

from flame.core import effects, events
from flame.core.attempts import RAISED_BACKOFF, RETRY_BACKOFF
from flame.core.records import LeaseLost, TasksLogged
from flame.model.attempts import MAX_DETAIL, MAX_KEPT, Cause
from flame.model.ids import ExecutorId, TaskId
from flame.model.logs import TaskLog
from flame.model.specs import EventCode, Failure, TaskState
from tests.core.builders import Bench, running

RAISED: Failure = (TaskState.FAILED, int(EventCode.FAILED), "ValueError: no")


def die(
    b: Bench,
    name: str,
    task: int,
    cause: str = Cause.EXIT,
    detail: str = "",
    log: tuple[bytes, bytes] = (b"", b""),
    attempt: int = 1,
) -> None:
    executor = b.executor(name)
    b.post(
        events.ExecutorExited(
            executor.node,
            executor.id,
            executor.process,
            TaskId(task),
            attempt,
            cause,
            detail,
            pid=4711,
            exit_code=7,
            log=log,
        )
    )


def test_a_lost_task_says_where_and_how_each_attempt_ended() -> None:
    b = running(1, max_attempts=2)
    die(b, "e1", 1, Cause.EXIT, "exited with code 7; the end of its stderr:\nfirst words")
    b.bind("e2")
    die(b, "e2", 1, Cause.OUT_OF_MEMORY, "second words")
    (sent,) = b.took(effects.SendOutcomes)
    _, code, message = sent.failures[0]
    assert code == EventCode.LOST
    assert "attempt 1 on node n, executor e1, pid 4711: exit: exited with code 7" in message
    assert "first words" in message
    assert "attempt 2 on node n, executor e2, pid 4711: out of memory: second words" in message


def test_what_a_dying_process_wrote_is_kept_up_to_a_limit() -> None:
    b = running(1)
    die(b, "e1", 1, Cause.EXIT, "beginning" + "x" * 100_000 + "end")
    detail = b.session().history[TaskId(1)][0].loss.detail
    assert len(detail) <= MAX_DETAIL + 5
    assert detail.startswith("beginning")
    assert detail.endswith("end")


def test_the_log_of_the_task_that_ran_is_stored_of_each_attempt_that_wrote() -> None:
    b = running(2, max_attempts=2)
    die(b, "e1", 1, log=(b"out", b"err"))
    b.bind("e2")
    assert b.stored(TasksLogged)[0].logs == [TaskLog(TaskId(1), 1, b"out", b"err")]
    die(b, "e2", 1, log=(b"more", b""), attempt=1)  # not the attempt that it runs: nobody's
    assert len(b.stored(TasksLogged)) == 1


def test_memory_and_preemption_are_told_apart_and_only_memory_is_charged() -> None:
    b = running(1, max_attempts=2)
    die(b, "e1", 1, Cause.PREEMPTED, "given to blue")
    b.bind("e2")
    die(b, "e2", 1, Cause.OUT_OF_MEMORY, "killed at 1 GiB")
    b.bind("e3")
    die(b, "e3", 1, Cause.PREEMPTED, "given to blue")
    b.later(max(RETRY_BACKOFF))
    assert [a.loss.cause for a in b.session().history[TaskId(1)]] == [Cause.OUT_OF_MEMORY]
    assert [r.loss.cause for r in b.stored(LeaseLost)] == [
        Cause.PREEMPTED,
        Cause.OUT_OF_MEMORY,
        Cause.PREEMPTED,
    ]
    b.bind("e4")
    die(b, "e4", 1, Cause.SIGNAL, "killed by SIGKILL")
    (sent,) = b.took(effects.SendOutcomes)
    lines = [line for line in sent.failures[0][2].splitlines() if line.startswith("attempt")]
    assert [line.partition("4711: ")[2] for line in lines] == [
        "out of memory: killed at 1 GiB",
        "signal: killed by SIGKILL",
    ]


@pytest.mark.parametrize("cause", [Cause.STOPPED, Cause.ENDED_EARLY, Cause.PREEMPTED])
def test_an_executor_that_was_stopped_on_purpose_spends_no_attempt(cause: Cause) -> None:
    b = running(1, max_attempts=1)
    die(b, "e1", 1, cause)
    b.bind("e2")
    assert b.session().live[TaskId(1)].attempts == 0
    assert b.handed("e2") == [1]


def test_a_task_that_is_charged_again_waits_before_it_is_tried() -> None:
    b = running(2, max_attempts=5)
    die(b, "e1", 1)
    b.bind("e2")
    die(b, "e2", 1)
    b.bind("e3")
    assert b.handed("e3") == [2]  # the other one need not wait
    b.later(RETRY_BACKOFF[1])
    assert b.handed("e3") == [1]


def test_a_resting_task_can_be_cancelled() -> None:
    b = running(1, max_attempts=5)
    die(b, "e1", 1)
    b.bind("e2")
    die(b, "e2", 1)
    b.post(events.CancelTasks(1, [TaskId(1)], "cancel"))
    b.later(60.0)
    assert b.session().cancelled == 1
    assert not b.session().live


def test_the_history_survives_a_restart_of_the_manager() -> None:
    b = running(1, max_attempts=2)
    die(b, "e1", 1, Cause.EXIT, "first words")
    b = b.restart()
    b.attach()
    b.node()
    b.later(60.0)  # what is bound in the store has not come back
    name = next(e.id for e in b.state.executors.values())
    b.bind(name)
    die(b, name, 1, Cause.SIGNAL, "second words")
    (sent,) = b.took(effects.SendOutcomes)
    assert "attempt 1 on node n, executor e1, pid 4711: exit: first words" in sent.failures[0][2]
    assert "attempt 2" in sent.failures[0][2]


def test_of_many_attempts_the_first_and_the_newest_are_kept() -> None:
    b = running(1, max_attempts=20)
    for number in range(1, 16):
        die(b, f"e{number}", 1, Cause.EXIT, f"words {number}")
        b.later(max(RETRY_BACKOFF))
        b.bind(f"e{number + 1}")
    history = b.session().history[TaskId(1)]
    assert [a.number for a in history] == [1, *range(17 - MAX_KEPT, 16)]
    assert b.session().live[TaskId(1)].attempts == 15


# --- failures of the service -------------------------------------------------------------------


def test_a_task_that_raises_is_final_unless_its_session_wants_it_tried_again() -> None:
    b = running(1)
    b.finish(1, failures={0: RAISED})
    assert b.session().failed == 1
    assert not b.stored(LeaseLost)


def test_a_task_that_raises_is_tried_as_often_as_its_session_says() -> None:
    b = running(2, retry_on_failure=2)
    b.finish(1, 2, failures={0: RAISED})
    assert b.session().succeeded == 1
    for sequence in (2, 3):
        assert b.handed() == ([1, 2] if sequence == 2 else [])
        b.later(max(RAISED_BACKOFF))
        assert b.handed() == [1]
        assert b.session().failed == 0
        b.finish(1, sequence=sequence, attempts=[sequence], failures={0: RAISED})
    (sent,) = [s for s in b.took(effects.SendOutcomes) if 1 in s.task_ids]
    message = sent.failures[0][2]
    assert message.startswith(
        "ValueError: no\nbefore this:\nattempt 1 on node n, executor e1: raised"
    )
    assert "attempt 2" in message
    assert [r.attempt for r in b.stored(LeaseLost)] == [1, 2]


RESET = ("builtins.ConnectionResetError", "builtins.ConnectionError", "builtins.OSError")


@pytest.mark.parametrize(
    ("retry_on", "kinds", "again"),
    [
        ((), (), True),
        (("ConnectionError",), RESET, True),
        (("builtins.OSError",), RESET, True),
        (("Error",), RESET, False),
        (("ValueError", "75"), RESET, False),
        (("ValueError", "75"), ("75",), True),
        (("75",), ("175",), False),
        (("mylib.Transient",), ("pkg.mylib.Transient",), True),
        (("ConnectionError",), (), False),  # an executor that does not say
    ],
)
def test_only_failures_of_the_kinds_that_a_session_names_are_tried_again(
    retry_on: tuple[str, ...], kinds: tuple[str, ...], again: bool
) -> None:
    b = running(1, retry_on_failure=1, retry_on=retry_on)
    assert b.handed() == [1]
    b.finish(1, failures={0: RAISED}, kinds={0: kinds})
    assert b.session().failed == (0 if again else 1)
    if again:
        b.later(max(RAISED_BACKOFF))
        assert b.handed() == [1]


def test_the_kind_of_a_failure_stays_with_its_task_in_a_batch() -> None:
    b = running(2, retry_on_failure=1, retry_on=("75",))
    assert b.handed() == [1, 2]
    b.finish(99, 1, 2, failures={1: RAISED, 2: RAISED}, kinds={1: ("1",), 2: ("75",)})
    assert (b.session().succeeded, b.session().failed) == (0, 1)
    b.later(max(RAISED_BACKOFF))
    assert b.handed() == [2]


def test_failures_and_lost_executors_are_counted_apart() -> None:
    b = running(1, retry_on_failure=1, max_attempts=2)
    b.finish(1, failures={0: RAISED})
    b.later(1.0)
    die(b, "e1", 1)
    b.later(1.0)
    b.bind("e2")
    b.later(max(RETRY_BACKOFF))
    assert b.handed("e2") == [1]
    assert b.session().live[TaskId(1)].attempts == 2
    b.finish(1, name="e2", attempts=[3])
    assert b.session().succeeded == 1


def test_results_of_a_failed_attempt_are_confirmed_so_that_the_executor_forgets_them() -> None:
    b = running(1, retry_on_failure=1)
    b.took(effects.SendResultsStored)
    b.finish(1, failures={0: RAISED})
    assert b.took(effects.SendResultsStored) == [effects.SendResultsStored(ExecutorId("e1"), 1)]
