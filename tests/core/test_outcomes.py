"""Results become outcomes: once, stored, told."""

from flame.core import effects, events
from flame.core.records import Barrier, OutcomesRecorded, TasksLogged
from flame.model.errors import NotFound
from flame.model.ids import DEFAULT_TENANT, SessionNumber, TaskId
from flame.model.logs import TaskLog
from flame.model.specs import Durability, EventCode, TaskState
from tests.core.builders import Bench, bench, running

FAILED = (TaskState.FAILED, int(EventCode.FAILED), "ValueError: no")


def test_a_result_is_told_after_the_commit_that_holds_it() -> None:
    b = running(1)
    b.commit_at_once = False
    b.finish(1)
    assert b.told() == []
    assert b.took(effects.SendResultsStored) == []
    b.commit()
    assert b.told() == [(0, 1)]
    assert [e.sequence for e in b.took(effects.SendResultsStored)] == [1]


def test_counts_follow_the_outcomes() -> None:
    b = running(2)
    b.finish(1, 2, failures={1: FAILED})
    view = b.cluster.session(DEFAULT_TENANT, "s")
    assert (view.pending, view.succeeded, view.failed) == (0, 1, 1)


def test_a_result_of_an_ended_incarnation_is_refused_and_its_process_too() -> None:
    b = running(1)
    old = b.executor().incarnation
    b.finish(1, incarnation=old - 1)
    assert [e.incarnation for e in b.took(effects.RefuseExecutor)] == [old - 1]
    assert 1 in b.session().live


def test_a_result_of_another_attempt_does_not_count() -> None:
    b = running(1)
    b.started(1)
    b.finish(1, attempts=[2])
    assert b.session().running == 1
    assert b.state.stale_results == 1
    b.finish(1, attempts=[1], sequence=2)
    assert b.told() == [(0, 1)]


def test_what_tasks_wrote_is_stored_in_the_commit_of_their_outcomes() -> None:
    b = running(3)
    b.commit_at_once = False
    logs = {0: (b"two", b""), 1: (b"a task that is not held", b""), 2: (b"", b"one")}
    b.finish(2, 9, 1, logs=logs)
    group = b.engine.take_group()
    assert group is not None
    assert [type(record) for record in group.records] == [TasksLogged, OutcomesRecorded]
    assert group.records[0] == TasksLogged(
        b.session().number, [TaskLog(TaskId(2), 1, b"two", b""), TaskLog(TaskId(1), 1, b"", b"one")]
    )


def test_a_log_tells_of_which_attempt_it_is_and_a_late_one_is_dropped() -> None:
    b = running(1)
    b.finish(1, attempts=[2], logs={0: (b"late", b"")})
    assert b.stored(TasksLogged) == []
    b.finish(1, attempts=[1], sequence=2, logs={0: (b"now", b"")})
    (stored,) = b.stored(TasksLogged)
    assert stored.logs == [TaskLog(TaskId(1), 1, b"now", b"")]


def test_results_sent_again_are_recorded_once() -> None:
    b = running(2)
    b.finish(1)
    b.finish(1)
    assert len(b.stored(OutcomesRecorded)) == 1
    assert [e.sequence for e in b.took(effects.SendResultsStored)] == [1, 1]


def test_a_task_named_twice_in_a_batch_is_recorded_once() -> None:
    b = running(2)
    b.finish(1, 1)
    assert [r.task_ids for r in b.stored(OutcomesRecorded)] == [[1]]


def test_results_that_count_for_nothing_are_confirmed_behind_a_barrier() -> None:
    b = running(1)
    b.commit_at_once = False
    b.post(events.CancelTasks(1, [TaskId(1)], "cancel"))
    b.finish(1)
    group = b.engine.take_group()
    assert group is not None
    assert not any(type(r) is Barrier for r in group.records)
    assert b.took(effects.SendResultsStored) == []
    b.store.commit(group.records, sync=False)
    b._take(b.engine.committed(b.now))
    assert [e.sequence for e in b.took(effects.SendResultsStored)] == [1]


# --- the log -----------------------------------------------------------------------------------


def finished(count: int) -> Bench:
    b = running(count, window=count)
    for task in range(1, count + 1):
        b.finish(task, sequence=task)
    return b


def test_a_subscriber_is_served_within_its_credit() -> None:
    b = running(3, window=3)
    b.attach(2, credit=1)
    b.finish(1, 2, 3)
    assert b.told(2) == [(0, 1)]  # one may overdraw
    b.post(events.GrantOutcomes(2, 1, 10_000))
    assert b.told(2) == [(1, 2), (2, 3)]


def test_a_late_subscriber_is_served_from_the_store_then_from_memory() -> None:
    b = finished(3)
    b.attach(2)
    for fetch in b.took(effects.FetchOutcomes):
        batch = b.store.outcomes(fetch.session, fetch.position, fetch.max_bytes)
        b.post(events.OutcomesFetched(2, batch))
    assert b.told(2)[0][1] == 1


def test_a_client_that_comes_back_goes_on_from_its_position() -> None:
    b = finished(3)
    b.told()
    b.post(events.Detach(1))
    b.attach(2, position=2)
    (fetch,) = b.took(effects.FetchOutcomes)
    assert fetch.position == 2
    b.post(events.OutcomesFetched(2, b.store.outcomes(SessionNumber(1), 2, 1000)))
    assert b.told(2) == [(2, 3)]


def test_a_position_beyond_the_log_is_refused() -> None:
    b = finished(1)
    b.attach(2, position=2)
    assert "position 2" in str(b.answers["attach 2"])


def test_an_answer_of_the_store_for_somebody_who_left_is_dropped() -> None:
    b = finished(1)
    b.post(events.OutcomesFetched(77, None))
    assert b.told(77) == []


def test_outcomes_that_are_no_longer_kept_are_skipped() -> None:
    b = finished(3)
    b.post(events.Detach(1))
    b.attach(2)
    b.took(effects.FetchOutcomes)
    b.post(events.OutcomesFetched(2, None, first_kept=2))
    (fetch,) = b.took(effects.FetchOutcomes)
    assert fetch.position == 2


def test_a_grant_without_a_subscription_is_harmless() -> None:
    b = Bench()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.attach(1, subscribe=False)
    b.post(events.GrantOutcomes(1, 0, 100))
    assert b.told() == []


def test_a_memory_session_drops_what_every_subscriber_has() -> None:
    b = Bench()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.attach()
    b.attach(2)
    b.node()
    b.submit(b"a", b"b")
    b.bind()
    b.finish(1, 2)
    b.post(events.GrantOutcomes(1, 2, 0))
    assert b.session().acknowledged == 0
    b.post(events.GrantOutcomes(2, 1, 0))
    assert b.session().acknowledged == 1


# --- watchers ----------------------------------------------------------------------------------


def watch(b: Bench, task: int = 1, watcher: str = "w") -> None:
    b.post(events.WatchTask(DEFAULT_TENANT, "s", TaskId(task), watcher))


def seen(b: Bench) -> list[TaskState]:
    return [e.view.state for e in b.took(effects.NotifyTask)]


def test_a_watcher_of_a_pending_task_hears_of_running_and_of_the_end() -> None:
    b = running(1)
    watch(b)
    assert seen(b) == []
    b.started(1)
    assert seen(b) == [TaskState.RUNNING]
    b.finish(1)
    assert seen(b) == [TaskState.SUCCEEDED]
    assert not b.session().watchers


def test_a_watcher_of_a_running_task_hears_so_at_once() -> None:
    b = running(1)
    b.started(1)
    watch(b)
    assert seen(b) == [TaskState.RUNNING]


def test_a_watcher_of_a_final_task_is_sent_to_the_store() -> None:
    b = running(1)
    b.finish(1)
    watch(b)
    assert b.took(effects.FinalTask) == [effects.FinalTask("w", SessionNumber(1), TaskId(1))]


def test_a_watcher_hears_of_a_cancel() -> None:
    b = bench()
    b.submit(b"a")
    watch(b)
    b.post(events.CancelTasks(1, [TaskId(1)], "cancel"))
    assert seen(b) == [TaskState.CANCELLED]


def test_a_watcher_of_a_task_that_never_was_is_refused() -> None:
    b = bench()
    watch(b, 7)
    assert isinstance(b.answers["w"], NotFound)


def test_a_watcher_that_left_hears_nothing() -> None:
    b = running(1)
    watch(b)
    watch(b, watcher="other")
    b.post(events.UnwatchTask(SessionNumber(1), TaskId(1), "w"))
    b.finish(1)
    assert [e.watcher for e in b.took(effects.NotifyTask)] == ["other"]


def test_a_client_is_sent_what_it_submitted_and_a_watcher_everything() -> None:
    b = running(2, window=9)
    b.attach(2, submitter=b"another one's id")
    b.attach(3, submitter=b"")
    b.attach(4, submitter=b"who starts over.", own=False)  # it waits for tasks of an earlier one
    b.submit(b"x", attachment=2)
    b.finish(1, 2, sequence=1)
    b.finish(3, sequence=2)
    assert b.told(1) == [(0, 1), (1, 2)]
    assert b.told(2) == [(2, 3)]
    assert b.told(4) == [(0, 1), (1, 2), (2, 3)]
    assert b.told(3) == [(0, 1), (1, 2), (2, 3)]
    assert {a.cursor for a in b.session().attachments.values()} == {3}


def test_what_a_client_need_not_be_sent_counts_as_taken_unless_something_is_on_its_way() -> None:
    b = running(2, window=9)
    b.attach(2, submitter=b"another one's id")
    mine, theirs = b.state.attachments[1], b.state.attachments[2]
    b.submit(b"x", attachment=2)
    b.finish(1, sequence=1)
    b.finish(3, sequence=2)
    assert (mine.taken, mine.cursor) == (0, 2)
    assert (theirs.taken, theirs.cursor) == (1, 2)
    b.post(events.GrantOutcomes(1, 1, 1000))
    b.finish(2, sequence=3)
    assert (mine.taken, theirs.taken) == (1, 1)


def test_a_client_is_told_now_and_then_how_far_the_log_of_others_has_come() -> None:
    b = running(100, window=200)
    b.attach(2, submitter=b"another one's id")
    for number in range(1, 101):
        b.finish(number, sequence=number)
    told = [e for e in b.took(effects.SendOutcomes) if e.attachment == 2]
    assert [(e.position, e.task_ids) for e in told] == [(64, [])]
