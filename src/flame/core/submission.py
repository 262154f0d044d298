"""Clients submit: attach to a session, number their tasks, get ids back once they are stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from flame.core.dispatch import dispatch, grant_submits, queue_is_full
from flame.core.early_ends import set_deadline
from flame.core.effects import (
    Accepted,
    Answer,
    AttachedView,
    SubmitRefused,
)
from flame.core.events import Attach, AttachmentId, CreateTask, Detach, Reply, SubmitTasks
from flame.core.keeping import came_back, check_kept, went_away
from flame.core.outcome_log import MOST_CREDIT, OUTCOME_COST, Attachment
from flame.core.records import Barrier, SubmittedRange, TasksSubmitted
from flame.core.session import Session
from flame.core.state import State, await_client, milliseconds
from flame.core.submitter import Submitter
from flame.core.subscribers import serve
from flame.core.task import Task
from flame.core.task_limits import limit
from flame.core.views import task_view
from flame.model.errors import FlameError, InvalidRequest, ResourceExhausted, WrongState
from flame.model.ids import TaskId
from flame.model.task_notes import NO_NOTES


@dataclass(slots=True)
class SubmitStored:
    """Cause: acknowledge to the attachment and queue the tasks."""

    session: Session
    attachment: AttachmentId
    cost: int


@dataclass(slots=True)
class CreateStored:
    """Cause: answer the call and queue the one task."""

    session: Session
    reply: Reply
    watcher: Reply | None


@dataclass(slots=True)
class DuplicatesStored:
    """Cause: the numbers were accepted before; acknowledge them again."""

    attachment: AttachmentId
    ranges: list[SubmittedRange]
    cost: int


def on_attach(state: State, event: Attach, now: float) -> None:
    """Let a client channel use a session."""
    session = state.session_named(event.tenant, event.name)
    if event.submitter and len(event.submitter) != 16:
        raise InvalidRequest(
            f"a submitter id has {len(event.submitter)} bytes; 16 are needed (a random UUID's)"
        )
    if event.position > session.log_end:
        raise InvalidRequest(
            f"outcomes from position {event.position} were asked for; "
            f"session {session.name!r} has {session.log_end}"
        )
    submitter = session.submitters.get(event.submitter)
    if session.is_volatile and event.subscribe:
        check_kept(session, event.submitter, event.position)
        came_back(session, event.submitter)
    attachment = Attachment(
        event.attachment,
        session.number,
        event.submitter,
        event.subscribe,
        cursor=event.position,
        taken=event.position,
        credit=min(MOST_CREDIT, event.credit),
        allowance=state.limits.submit_credit,
        own=event.own and bool(event.submitter),
    )
    state.attachments[event.attachment] = attachment
    session.attachments[event.attachment] = attachment
    session.was_attached = True
    if session.spec.client_lost_ms is not None:
        state.deadlines.clear(("orphan", session.number))
    view = AttachedView(
        event.attachment,
        session.number,
        submitter.next_number if submitter else 0,
        state.limits.submit_credit,
        bool(session.state),
        session.log_end,
    )
    state.emit(Answer(event.reply, view))
    serve(state, session, attachment)


def on_detach(state: State, event: Detach, now: float) -> None:
    """The client has no more use for the session, or is gone."""
    attachment = state.attachments.pop(event.attachment, None)
    if attachment is None:
        return
    session = state.sessions.get(attachment.session)
    if session is not None:
        session.attachments.pop(event.attachment, None)
        went_away(state, session, attachment, now)
        if not session.attachments:
            await_client(state, session, now)
        if not any(a.subscribed for a in session.attachments.values()):
            session.tail.clear()


def on_submit(state: State, event: SubmitTasks, now: float) -> None:
    """Assign ids to new tasks and have them stored."""
    attachment = state.attachments.get(event.attachment)
    if attachment is None:
        return  # detached while the batch was on its way
    session = state.sessions[attachment.session]
    count = len(event.inputs)
    submitter = session.submitters.get(attachment.submitter)
    known = submitter.next_number if submitter else 0
    spent = _cost(event.inputs)
    attachment.allowance -= spent
    error = _refusal(state, session, event, attachment, known)
    if error is not None:
        refuse_submit(state, event.attachment, event.first_number, count, error, spent)
        return
    repeated = min(count, known - event.first_number)
    if repeated and submitter is not None:
        ranges = list(submitter.ids_of(event.first_number, repeated))
        known_before = DuplicatesStored(event.attachment, ranges, _cost(event.inputs[:repeated]))
        if state.full:  # then nothing that is known is on its way
            duplicates_stored(state, known_before)
        else:
            state.store(Barrier(), known_before, session=session)
    inputs = event.inputs[repeated:] if repeated else event.inputs
    if not inputs:
        return
    if state.full and not session.is_volatile:
        error = ResourceExhausted(state.full)
        refuse_submit(state, event.attachment, known, len(inputs), error, _cost(inputs))
        return
    room, error = session.backlog.admit(inputs)
    if error is not None:
        over, inputs = inputs[room:], inputs[:room]
        refuse_submit(state, event.attachment, known + room, len(over), error, _cost(over))
        if not inputs:
            return
    if submitter is None:
        submitter = session.submitters[attachment.submitter] = Submitter()
    first_id = TaskId(session.next_id)
    session.next_id += len(inputs)
    submitter.accept(known, len(inputs), first_id)
    cost = spent if inputs is event.inputs else _cost(inputs)
    limits = event.limits
    if limits and len(inputs) < count:
        kept = range(repeated, repeated + len(inputs))
        limits = {index - repeated: own for index, own in limits.items() if index in kept}
    notes = event.notes
    if notes and len(inputs) < count:
        kept = range(repeated, repeated + len(inputs))
        notes = {index - repeated: own for index, own in notes.items() if index in kept}
    record = TasksSubmitted(
        session.number,
        attachment.submitter,
        known,
        first_id,
        inputs,
        milliseconds(now),
        limits,
        notes,
    )
    state.store(record, SubmitStored(session, event.attachment, cost), session=session)


def refuse_submit(
    state: State,
    attachment: AttachmentId,
    first_number: int,
    count: int,
    error: FlameError,
    cost: int,
) -> None:
    """Say that these numbers are not stored, and give their credit back."""
    state.emit(SubmitRefused(attachment, first_number, count, error))
    grant_submits(state, state.attachments[attachment], cost)


def _cost(inputs: Sequence[bytes | None]) -> int:
    """Return how much of its credit the client spent on these."""
    return OUTCOME_COST * len(inputs) + sum([len(i) for i in inputs if i is not None])


def _refusal(
    state: State, session: Session, event: SubmitTasks, attachment: Attachment, known: int
) -> FlameError | None:
    """Return why the batch cannot be taken, or None."""
    if not attachment.submitter:
        return InvalidRequest("this attachment gave no submitter id, so it cannot submit")
    if event.first_number > known:
        return InvalidRequest(
            f"number {event.first_number} was submitted where {known} is next: numbers have no gaps"
        )
    if event.first_number + len(event.inputs) <= known:
        return None  # all of it was accepted before, whatever the session is now
    if attachment.allowance < -state.limits.submit_credit:
        # A client that counts its credit is never even below zero.
        return ResourceExhausted(
            f"this client has submitted {-attachment.allowance} bytes more than the credit that it "
            "was given; wait for credit (Attached.submit_credit, Accepted.credit, SubmitCredit)"
        )
    if not session.accepts:
        return WrongState(f"session {session.name!r} is closed; tasks can no longer be submitted")
    return _oversize(state, event.inputs)


def _oversize(state: State, inputs: Sequence[bytes | None]) -> InvalidRequest | None:
    limit = state.limits.max_input_bytes
    for value in inputs:
        if value is not None and len(value) > limit:
            return InvalidRequest(
                f"a task's input has {len(value)} bytes; at most {limit} are allowed. "
                "Put large data where its executors can read it, a volume for example, and its name into "
                "the task"
            )
    return None


def on_create(state: State, event: CreateTask, now: float) -> None:
    """Make one task for a caller that does not number its submits."""
    session = state.session_named(event.tenant, event.name)
    if not session.accepts:
        raise WrongState(
            f"session {session.name!r} is closed; tasks can no longer be created in it"
        )
    error: FlameError | None = _oversize(state, (event.input,))
    if error is not None:
        raise error
    if state.full and not session.is_volatile:
        raise ResourceExhausted(state.full)
    if queue_is_full(state, session):
        raise ResourceExhausted(
            f"session {session.name!r} has {session.queued} tasks queued; "
            f"at most {state.limits.max_queued_tasks} may be. Try again later"
        )
    _, error = session.backlog.admit((event.input,))
    if error is not None:
        raise error
    first_id = TaskId(session.next_id)
    session.next_id += 1
    record = TasksSubmitted(
        session.number,
        b"",
        0,
        first_id,
        [event.input],
        milliseconds(now),
        notes={0: event.notes} if event.notes is not NO_NOTES else None,
    )
    state.store(record, CreateStored(session, event.reply, event.watcher), session=session)


def tasks_stored(
    state: State, record: TasksSubmitted, cause: SubmitStored | CreateStored, now: float
) -> None:
    """The tasks are safe: acknowledge, queue, hand out."""
    session = cause.session
    created = record.created_ms
    tasks = [
        Task(TaskId(i), value, created) for i, value in enumerate(record.inputs, record.first_id)
    ]
    before = session.unfinished
    for task in tasks:
        session.live[task.id] = task
    session.enqueue(tasks)
    if record.notes:
        session.notes.update({tasks[index].id: own for index, own in record.notes.items()})
    if record.limits:
        limits = {tasks[index].id: own for index, own in record.limits.items()}
        limit(session, limits, created)
    if session.spec.deadline_ms or record.limits:
        set_deadline(state, session)
    if isinstance(cause, SubmitStored):
        _acknowledge(state, record, cause)
    else:
        if cause.watcher is not None:
            session.watchers.setdefault(record.first_id, []).append(cause.watcher)
        state.emit(Answer(cause.reply, task_view(session, tasks[0])))
    state.touch_session(session)
    if before <= len(session.executors) - session.standing_by < session.unfinished:
        state.replan = True  # with more before, the last plan knew already that it wants more
    dispatch(state, session)


def _acknowledge(state: State, record: TasksSubmitted, cause: SubmitStored) -> None:
    attachment = state.attachments.get(cause.attachment)
    if attachment is None:
        return
    credit = cause.cost
    if queue_is_full(state, cause.session):
        attachment.withheld += credit
        credit = 0
    attachment.allowance += credit
    state.emit(
        Accepted(attachment.id, record.first_number, len(record.inputs), record.first_id, credit)
    )


def duplicates_stored(state: State, cause: DuplicatesStored) -> None:
    """What was accepted before is certainly stored by now: acknowledge it again."""
    attachment = state.attachments.get(cause.attachment)
    if attachment is None:
        return
    credit = cause.cost  # all of it travels with the first range
    attachment.allowance += credit
    for known in cause.ranges:
        state.emit(Accepted(attachment.id, known.first_number, known.count, known.first_id, credit))
        credit = 0
