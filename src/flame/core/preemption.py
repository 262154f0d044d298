"""Executors are taken from a session for another: gently, then, if that is owed, within a grace.

An executor that has to go gives back what it has not started and finishes its task. Where the plan
says so, a task that still runs after the grace is thrown away and queued again, without spending an
attempt: never more than ``MAX_PREEMPTIONS`` times, and never more work than the budget allows.
"""

from collections.abc import Iterable

from flame.core.executor import Executor
from flame.core.hand import return_tasks
from flame.core.leaving import detach, stop, unbind
from flame.core.reports import KEPT
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import FINISHING
from flame.model.attempts import Cause, Loss
from flame.model.ids import ExecutorId
from flame.model.specs import ExecutorState, SessionState
from flame.scheduling.budget import Budget
from flame.scheduling.steps import Release
from flame.scheduling.victims import MAX_PREEMPTIONS, Candidate, choose

#: Seconds after which it is looked again at a task that could not be thrown away.
LOOK_AGAIN = 1.0


def release(state: State, session: Session, step: Release, now: float) -> None:
    """Take executors from a session: those whose leaving costs least."""
    chosen: dict[ExecutorId, None] = {}
    node = state.nodes.get(step.node) if step.node is not None else None
    if node is not None and session.spec.batch_size == 1:
        # Mostly the few on that node will do, and the many elsewhere need not be looked at.
        mine = [e for e in node.executors.values() if e.session is session]
        chosen.update(dict.fromkeys(choose(_candidates(session, mine), step.count)))
    candidates = (
        _candidates(session, session.executors.values()) if len(chosen) < step.count else []
    )
    for protect in (True, False):  # one that is left alone may still be asked to leave
        if len(chosen) < step.count:
            found = choose(candidates, step.count, step.node, protect=protect)
            chosen.update(dict.fromkeys(found))
    # Gangs go whole, so there may be more than were asked for.
    for executor_id in chosen:
        executor = state.executors[executor_id]
        unbind(state, executor, now)
        if step.grace is not None and executor.state is ExecutorState.UNBINDING:
            state.deadlines.set(("preempt", executor.id), now + step.grace)


def _candidates(session: Session, executors: Iterable[Executor]) -> list[Candidate]:
    return [
        _candidate(session, e)
        for e in executors
        if e.state in KEPT and not e.standby and e.id not in session.unreported
    ]


def _candidate(session: Session, executor: Executor) -> Candidate:
    task = executor.started
    return Candidate(
        executor.id,
        executor.node,
        len(executor.held),
        executor.started_at if task is not None else None,
        session.preempted.get(task.id, 0) if task is not None else 0,
        executor.gang or None,
    )


def grace_over(state: State, session: Session, executor: Executor, now: float) -> None:
    """The executor should have left by now: throw its task away, if that is allowed."""
    if executor.state is not ExecutorState.UNBINDING or session.state is not SessionState.OPEN:
        return
    task = executor.started
    if task is None or task.stage == FINISHING or not executor.connected:
        state.deadlines.set(("preempt", executor.id), now + LOOK_AGAIN)
        return
    before = session.preempted.get(task.id, 0)
    if before >= MAX_PREEMPTIONS:
        return
    if state.budget is None:
        limits = state.limits
        state.budget = Budget.full(now, limits.preemption_rate, limits.preemption_burst)
    spent = max(0.0, now - executor.started_at)
    if not state.budget.take(now, spent):
        wait = state.budget.ready_in(spent)
        if wait is not None:  # else it ends by itself, and its executor leaves then
            state.deadlines.set(("preempt", executor.id), now + max(wait, LOOK_AGAIN))
        return
    session.preempted[task.id] = before + 1
    session.preemptions += 1
    session.preempted_seconds += spent
    text = "another tenant or a higher priority was owed its executor"
    return_tasks(state, session, executor, None, now, Loss(Cause.PREEMPTED, text))
    detach(state, executor)
    stop(state, executor, now)
