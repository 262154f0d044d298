"""What is true of a session between any two events; see :mod:`flame.core.invariants`."""

from collections.abc import Iterator
from itertools import pairwise

from flame.core.executor import Executor
from flame.core.reports import KEPT
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import FINISHING, HELD, QUEUED, STARTED
from flame.model.specs import ExecutorState, SessionState


def problems_of(state: State, session: Session) -> Iterator[str]:
    """Yield a sentence for everything that is not as it should be."""
    yield from _counts(session)
    yield from _hands(session)
    yield from _standby(session)
    yield from _log(session)
    yield from _submitters(session)
    yield from _attachments(state, session)
    yield from _closing(session)
    if session.spec.batch_size > 1 and session.number not in state.touched_gangs:
        yield from _gangs(session)


def _counts(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    queued = {t.id: t for t in session.queue if t.stage == QUEUED}
    live = {t.id for t in session.live.values() if t.stage == QUEUED}
    if set(queued) != live:
        yield f"{who}: tasks {sorted(live ^ set(queued))[:9]} are QUEUED or in the queue, not both"
    if session.queued != len(live):
        yield f"{who}: queued is {session.queued}; {len(live)} tasks are QUEUED"
    size = sum(len(t.input or b"") for t in queued.values())
    if session.queued_bytes != size:
        yield f"{who}: queued_bytes is {session.queued_bytes}; the QUEUED tasks have {size}"
    started = [t for t in session.live.values() if t.stage == STARTED]
    if session.running != len(started):
        yield f"{who}: running is {session.running}; {len(started)} tasks are STARTED"
    for task_id, task in session.live.items():
        if task.id != task_id or not 1 <= task_id < session.next_id:
            yield f"{who}: task {task.id} is live as {task_id}; next id is {session.next_id}"
        known = session.history.get(task_id)
        lost = task.attempts - (known[-1].raised if known else 0)
        if task.stage != FINISHING and lost >= session.spec.max_attempts:
            yield f"{who}: task {task_id} goes on after {task.attempts} attempts"
        if (known[-1].number if known else 0) != task.attempts:
            yield f"{who}: task {task_id} spent {task.attempts} attempts; its history: {known}"
    for task_id in session.watchers:
        if task_id not in session.live:
            yield f"{who}: task {task_id} is watched but not live"
        if not session.watchers[task_id]:
            yield f"{who}: an empty list of watchers is kept for task {task_id}"
    final = session.succeeded + session.failed + session.cancelled
    if final != session.log_end:
        yield f"{who}: {final} final tasks are counted; its log holds {session.log_end}"
    if session.log_end + len(session.live) > session.next_id - 1:
        yield (
            f"{who}: {session.log_end} final and {len(session.live)} live tasks; "
            f"only {session.next_id - 1} have ids"
        )
    if session.state is SessionState.CLOSED and session.live:
        yield f"{who} is closed with {len(session.live)} live tasks, {min(session.live)} first"


def _hands(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    holders: dict[int, Executor] = {}
    for executor in session.executors.values():
        if executor.session is not session:
            yield f"{who}: executor {executor.id} is listed but serves another"
        for task_id, task in executor.held.items():
            if task_id in holders:
                yield f"{who}: task {task_id} is in two hands"
            holders[task_id] = executor
            live = session.live.get(task_id)
            if task.stage == FINISHING:
                continue  # cancelled; the executor has not given it up yet
            if live is not task:
                yield f"{who}: executor {executor.id} holds task {task_id}, which is not live"
            if task.stage == QUEUED:
                yield f"{who}: task {task_id} is QUEUED and held by {executor.id}"
            if task.holder is not executor:
                yield f"{who}: task {task_id} is held by {executor.id} and names another holder"
        started = executor.started
        if started is not None and (
            started.stage != STARTED or executor.held.get(started.id) is not started
        ):
            yield f"{who}: executor {executor.id} runs task {started.id}, which is not STARTED there"
        if executor.is_usable:
            for what, index, belongs in (
                ("roomy", session.roomy, len(executor.held) < executor.window),
                ("empty", session.empty, not executor.held and executor.window > 0),
                ("ahead", session.ahead, len(executor.held) > 1),
            ):
                if belongs and executor.id not in index:
                    yield f"{who}: executor {executor.id} is missing in {what}"
        if executor.state is ExecutorState.BINDING and executor.id not in session.starting:
            yield f"{who}: executor {executor.id} is missing in starting"
    for index in (session.roomy, session.empty, session.ahead, session.starting):
        if index.keys() - session.executors.keys():
            yield f"{who}: {sorted(index.keys() - session.executors.keys())[:9]} have left it"
    for task_id, task in session.live.items():
        if task.stage == STARTED and (task.holder is None or task.holder.started is not task):
            yield f"{who}: task {task_id} is STARTED; its executor does not say so"
        if task.stage == HELD and task.holder is not None and task_id not in holders:
            yield f"{who}: task {task_id} is HELD by {task.holder.id}, which has left"
        if task.stage == QUEUED and (task.holder is not None or task_id in holders):
            yield f"{who}: task {task_id} is QUEUED and has a holder"


def _standby(session: Session) -> Iterator[str]:
    standing_by = [e for e in session.executors.values() if e.standby]
    if session.standing_by != len(standing_by):
        yield (
            f"session {session.number}: {len(standing_by)} executors stand by; "
            f"{session.standing_by} are counted"
        )
    for executor in standing_by:
        if executor.state is not ExecutorState.BOUND or executor.held or executor.gang:
            yield f"executor {executor.id} stands by, {executor.state.name}, with {executor.held}"


def _log(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    if not 0 <= session.log_end <= session.next_position:
        yield f"{who}: its log ends at {session.log_end}; next is {session.next_position}"
    if session.acknowledged > session.log_end:
        yield f"{who}: {session.acknowledged} outcomes are acknowledged of {session.log_end}"
    finishing = sum(t.stage == FINISHING for t in session.live.values())
    if session.next_position - session.log_end != finishing:
        yield (
            f"{who}: {session.next_position - session.log_end} outcomes are being stored; "
            f"{finishing} live tasks are FINISHING"
        )


def _submitters(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    ids: list[tuple[int, int]] = []
    for key, submitter in session.submitters.items():
        number = 0
        for known in submitter.ids_of(0, submitter.next_number):
            if known.first_number != number or known.count < 1:
                yield f"{who}: submitter {key.hex()} has {known} where {number} is next"
            number = known.first_number + known.count
            ids.append((known.first_id, known.first_id + known.count))
        if number != submitter.next_number:
            yield f"{who}: submitter {key.hex()} ends at {number}, not {submitter.next_number}"
    ids.sort()
    for (_, end), (start, _) in pairwise(ids):
        if start < end:
            yield f"{who}: task {start} belongs to two submits"
    if ids and ids[-1][1] > session.next_id:
        yield f"{who}: task {ids[-1][1] - 1} was submitted; next id is {session.next_id}"


def _attachments(state: State, session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    for identity, attachment in session.attachments.items():
        if attachment.id != identity or state.attachments.get(identity) is not attachment:
            yield f"{who}: attachment {identity} is unknown to the cluster"
        if attachment.cursor > session.log_end:
            yield f"{who}: attachment {identity} was sent {attachment.cursor} of {session.log_end}"
        if attachment.taken > attachment.cursor:
            yield f"{who}: attachment {identity} took {attachment.taken} of {attachment.cursor}"


def _closing(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    if session.closing is not None and session.storing_close:
        yield f"{who} waits for its close and stores it"
    if session.state is SessionState.CLOSED and not session.storing_close and session.closing:
        yield f"{who} is closed and waits for its close"
    for executor_id in session.unreported:
        if session.state is SessionState.OPEN and executor_id in session.executors:
            executor = session.executors[executor_id]
            if executor.held or executor.state is not ExecutorState.BINDING:
                yield f"{who}: executor {executor_id} has reported and is waited for"


def _gangs(session: Session) -> Iterator[str]:
    """No part of a gang goes on alone, but for executors that have not told what they hold."""
    if session.state is not SessionState.OPEN:
        return
    gangs: dict[int, list[Executor]] = {}
    for executor in session.executors.values():
        if executor.state in KEPT:
            gangs.setdefault(executor.gang, []).append(executor)
    for gang, members in gangs.items():
        awaited = all(e.id in session.unreported for e in members)
        if not awaited and (not gang or len(members) != session.spec.batch_size):
            names = sorted(e.id for e in members)
            yield f"session {session.number}: of gang {gang} there are only {names}"
