"""Submits: numbered by the client, stored, acknowledged, handed out."""

import pytest

from flame.core import effects, events
from flame.core.executor import MOST_WINDOW
from flame.core.outcome_log import MOST_CREDIT
from flame.core.records import TasksSubmitted
from flame.core.state import Limits
from flame.model.errors import InvalidRequest, ResourceExhausted, WrongState
from flame.model.ids import DEFAULT_TENANT, ExecutorId
from tests.core.builders import bench, running


def test_a_submit_is_stored_then_acknowledged_then_handed_out() -> None:
    b = bench(commit_at_once=False)
    b.commit()
    b.node()
    b.submit(b"a", b"b")
    assert b.took(effects.Accepted) == []
    b.commit()
    (accepted,) = b.took(effects.Accepted)
    assert (accepted.first_number, accepted.count, accepted.first_id) == (0, 2, 1)
    b.bind()
    b.commit()
    assert b.handed() == [1, 2]
    assert [r.inputs for r in b.stored(TasksSubmitted)] == [[b"a", b"b"]]


def test_a_repeated_submit_gets_the_ids_it_had() -> None:
    b = bench()
    b.submit(b"a", b"b")
    b.submit(b"x", b"y", b"c", first=0)
    accepted = [(e.first_number, e.count, e.first_id) for e in b.took(effects.Accepted)]
    assert accepted == [(0, 2, 1), (0, 2, 1), (2, 1, 3)]
    assert [r.inputs for r in b.stored(TasksSubmitted)] == [[b"a", b"b"], [b"c"]]


def test_a_repeated_submit_is_acknowledged_only_when_the_first_is_stored() -> None:
    b = bench(commit_at_once=False)
    b.commit()
    b.submit(b"a")
    group = b.engine.take_group()
    assert group is not None
    b.submit(b"a", first=0)
    assert b.took(effects.Accepted) == []
    b.store.commit(group.records, sync=False)
    b._take(b.engine.committed(b.now), pump=False)
    b.commit()
    assert len(b.took(effects.Accepted)) == 2


def test_repeated_submits_give_their_credit_back() -> None:
    """Else a client that reconnects with much unacknowledged would never submit again."""
    b = bench()
    b.submit(b"12345678")
    b.submit(b"12345678", first=0)
    assert [e.credit for e in b.took(effects.Accepted)] == [72, 72]


def test_a_refused_submit_gives_its_credit_back() -> None:
    b = bench(limits=Limits(max_input_bytes=4))
    b.submit(b"12345678")
    assert [e.credit for e in b.took(effects.GrantSubmits)] == [72]


def test_a_gap_in_the_numbers_is_refused() -> None:
    b = bench()
    b.submit(b"a", first=3)
    (refused,) = b.took(effects.SubmitRefused)
    assert isinstance(refused.error, InvalidRequest)
    assert "no gaps" in str(refused.error)


def test_an_input_over_the_limit_is_refused_with_both_sizes() -> None:
    b = bench(limits=Limits(max_input_bytes=4))
    b.submit(b"1234", b"12345")
    (refused,) = b.took(effects.SubmitRefused)
    assert "5 bytes; at most 4" in str(refused.error)
    assert not b.session().live


def test_a_closed_session_refuses_new_submits_and_still_knows_old_ones() -> None:
    """A client that was away while the session closed learns what was accepted."""
    b = bench()
    b.submit(b"a")
    b.close()
    b.attach(2)
    assert b.answers["attach 2"].submitted == 1
    b.took(effects.Accepted)
    b.submit(b"a", attachment=2)
    b.submit(b"b", attachment=2, first=1)
    assert [e.first_id for e in b.took(effects.Accepted)] == [1]
    (refused,) = b.took(effects.SubmitRefused)
    assert isinstance(refused.error, WrongState)


def test_a_closed_session_knows_old_submits_after_a_restart_too() -> None:
    b = bench()
    b.submit(b"a")
    b.close()
    after = b.restart()
    after.attach(2)
    assert after.answers["attach 2"].submitted == 1


def test_an_attachment_without_a_submitter_cannot_submit() -> None:
    b = bench()
    b.attach(2, submitter=b"")
    b.submit(b"a", attachment=2)
    (refused,) = b.took(effects.SubmitRefused)
    assert "submitter" in str(refused.error)


def test_a_submitter_of_the_wrong_length_is_refused() -> None:
    b = bench()
    b.attach(2, submitter=b"short")
    assert isinstance(b.answers["attach 2"], InvalidRequest)


def test_two_submitters_share_a_session_without_mixing_numbers() -> None:
    b = bench()
    b.attach(2, submitter=b"another one's id")
    b.submit(b"a")
    b.submit(b"b", attachment=2)
    b.submit(b"c", first=1)
    b.submit(b"a", b"c")
    ids = [(e.attachment, e.first_number, e.count, e.first_id) for e in b.took(effects.Accepted)]
    assert ids == [(1, 0, 1, 1), (2, 0, 1, 2), (1, 1, 1, 3), (1, 0, 1, 1), (1, 1, 1, 3)]


def test_submit_credit_is_withheld_while_the_queue_is_full() -> None:
    b = bench(limits=Limits(max_queued_tasks=2))
    b.submit(b"a")
    b.submit(b"b", first=1)
    assert [e.credit for e in b.took(effects.Accepted)] == [65, 0]
    b.node()
    b.bind()
    assert [e.credit for e in b.took(effects.GrantSubmits)] == [65]


def test_withheld_credit_comes_back_when_the_queue_shrinks_by_a_cancel() -> None:
    """Nothing is handed out, and still the client must be able to go on."""
    b = bench(limits=Limits(max_queued_tasks=1))
    b.submit(b"a")
    assert [e.credit for e in b.took(effects.Accepted)] == [0]
    b.post(events.CancelTasks(1, [1], "cancel"))  # type: ignore[list-item]
    assert [e.credit for e in b.took(effects.GrantSubmits)] == [65]


def test_a_task_created_by_a_call_is_answered_once_stored() -> None:
    b = bench()
    b.post(events.CreateTask(DEFAULT_TENANT, "s", b"a", "create"))
    assert b.answers["create"].task_id == 1
    assert 1 in b.session().live


@pytest.mark.parametrize(
    ("limits", "error"),
    [(Limits(max_queued_tasks=0), ResourceExhausted), (Limits(max_input_bytes=0), InvalidRequest)],
)
def test_a_task_that_is_too_much_is_refused(limits: Limits, error: type[Exception]) -> None:
    b = bench(limits=limits)
    b.post(events.CreateTask(DEFAULT_TENANT, "s", b"a", "create"))
    assert isinstance(b.answers["create"], error)


def test_a_submit_for_an_attachment_that_is_gone_is_dropped() -> None:
    b = bench()
    b.post(events.Detach(1))
    b.submit(b"a")
    assert not b.session().live


def test_tasks_submitted_while_all_work_are_handed_out_as_results_come() -> None:
    b = running(3)
    assert b.handed() == [1, 2]
    b.finish(1)
    assert b.handed() == [3]


def test_a_client_that_does_not_mind_its_credit_is_refused_and_costs_no_memory() -> None:
    b = bench(limits=Limits(submit_credit=1000, max_queued_tasks=1))
    b.submit(*[b""] * 10)  # 640 of 1000; the queue is full, so the credit is withheld
    b.submit(*[b""] * 10, first=10)
    b.submit(*[b""] * 10, first=20)
    assert b.took(effects.SubmitRefused) == []
    b.submit(*[b""] * 10, first=30)
    (refused,) = b.took(effects.SubmitRefused)
    assert isinstance(refused.error, ResourceExhausted)
    assert "1560 bytes more than the credit that it was given" in str(refused.error)
    assert b.session().queued == 30


def test_credit_that_is_used_and_given_back_never_runs_out() -> None:
    b = bench(limits=Limits(submit_credit=200))
    for number in range(100):
        b.submit(b"x" * 10, b"", first=2 * number)
        b.submit(b"again", b"", first=2 * number)  # sent twice after a lost answer
    assert b.took(effects.SubmitRefused) == []
    assert b.state.attachments[1].allowance == 200


def test_no_client_has_more_outcomes_on_their_way_than_the_most() -> None:
    b = bench()
    b.attach(2, credit=2**62)
    assert b.state.attachments[2].credit == MOST_CREDIT
    b.post(events.GrantOutcomes(2, 0, 2**62))
    assert b.state.attachments[2].credit == MOST_CREDIT


def test_no_executor_is_handed_more_than_the_largest_window() -> None:
    b = running(1)
    b.post(events.WindowChanged(ExecutorId("e1"), b.executor().incarnation, 2**32 - 1))
    assert b.executor().window == MOST_WINDOW
