"""Applications and sessions: create, open, close, delete."""

from dataclasses import dataclass, replace

from flame.core.dispatch import ask_back, dispatch, rebalance
from flame.core.early_ends import end_early
from flame.core.effects import Answer, Done, Refuse, SendSessionClosed
from flame.core.events import (
    CancelTasks,
    CloseSession,
    CreateSession,
    DeleteSession,
    OpenSession,
    RegisterApplication,
    Reply,
    UnregisterApplication,
)
from flame.core.executor import LEAVE_TIMEOUT
from flame.core.leaving import unbind
from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    Barrier,
    SessionDeleted,
    SessionEvent,
    SessionPut,
)
from flame.core.session import Closing, Session
from flame.core.state import State, await_client, milliseconds
from flame.core.subscribers import serve
from flame.core.views import session_view
from flame.core.waiting import check_possible
from flame.model.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    WrongState,
)
from flame.model.ids import DEFAULT_TENANT, SessionNumber, Tenant, check_name
from flame.model.labels import format_labels
from flame.model.specs import (
    Durability,
    Event,
    EventCode,
    ExecutorState,
    Failure,
    SessionSpec,
    SessionState,
    TaskState,
)
from flame.model.unnamed import is_content_name

#: Seconds for which a close waits for tasks that are in an executor's hand and not known to run.
CLOSE_WAIT = 0.5
#: Seconds that the client of a new session has to attach to it.
FIRST_ATTACH = 10.0

_CANCELLED: Failure = (
    TaskState.CANCELLED,
    int(EventCode.CANCELLED),
    "cancelled: its session was closed",
)
_CANCELLED_BY_USER: Failure = (
    TaskState.CANCELLED,
    int(EventCode.CANCELLED),
    "cancelled by its user",
)


@dataclass(slots=True)
class ReplyDone:
    """Cause: answer with success."""

    reply: Reply


@dataclass(slots=True)
class ReplySession:
    """Cause: answer with the session as it is then."""

    session: Session
    replies: list[Reply]
    closed: bool = False


@dataclass(slots=True)
class CloseBegins:
    """Cause: everything submitted before the close is stored; now cancel it."""

    session: Session


# --- applications ------------------------------------------------------------------------------


def on_register(state: State, event: RegisterApplication, now: float) -> None:
    """Add an application, or replace the one of this name."""
    check_name(event.name, "application")
    key = (event.tenant, event.name)
    known = state.applications.get(key)
    if event.replace and known is None:
        raise NotFound(f"there is no application {event.name!r} to update; register it first")
    if not event.replace and known is not None:
        raise AlreadyExists(f"application {event.name!r} is registered already; update it instead")
    created = known.created_ms if known is not None else milliseconds(now)
    put = ApplicationPut(event.tenant, event.name, event.spec, created)
    state.applications[key] = put
    for session in state.sessions.values():
        if session.spec.application == event.name:
            state.touch_session(session)
    state.replan = True  # another limit may let sessions have more
    state.store(put, ReplyDone(event.reply))


def on_unregister(state: State, event: UnregisterApplication, now: float) -> None:
    """Remove an application that no open session uses."""
    key = (event.tenant, event.name)
    if key not in state.applications:
        raise NotFound(f"there is no application {event.name!r}")
    users = [
        s.name
        for s in state.sessions.values()
        if s.state is SessionState.OPEN
        and s.spec.application == event.name
        and event.tenant in (s.tenant, DEFAULT_TENANT)
    ]
    if users:
        raise WrongState(
            f"application {event.name!r} is used by {len(users)} open sessions, "
            f"{users[0]!r} among them; close them first"
        )
    del state.applications[key]
    state.store(ApplicationDeleted(event.tenant, event.name), ReplyDone(event.reply))


# --- create and open ---------------------------------------------------------------------------


def on_create_session(state: State, event: CreateSession, now: float) -> None:
    """Make a session under a name that is free."""
    if (event.tenant, event.name) in state.names:
        raise AlreadyExists(f"there is a session {event.name!r} already")
    _create(state, event.tenant, event.name, _kept(state, event.spec), event.reply, now)


def _kept(state: State, spec: SessionSpec) -> SessionSpec:
    """Return the spec with the durability that the cluster can give."""
    return replace(spec, durability=Durability.MEMORY) if state.limits.memory_only else spec


def on_open_session(state: State, event: OpenSession, now: float) -> None:
    """Get the open session of this name; with a spec, make it or compare."""
    session = state.names.get((event.tenant, event.name))
    if session is None:
        if event.spec is None:
            raise NotFound(f"there is no session {event.name!r} of tenant {event.tenant!r}")
        _create(state, event.tenant, event.name, _kept(state, event.spec), event.reply, now)
        return
    if session.state is not SessionState.OPEN:
        raise WrongState(f"session {event.name!r} is not open")
    if event.spec is not None:
        _compare(session, _kept(state, event.spec))
    # Behind a barrier: the session itself may still be on its way into the store.
    state.store(Barrier(), ReplySession(session, [event.reply]))


def _compare(session: Session, spec: SessionSpec) -> None:
    """Object if the session that is there would treat the caller's tasks otherwise than asked for.

    Common data, the time of standby, and what is only preferred, may differ.
    """
    for name, ours, theirs in (
        ("application", session.spec.application, spec.application),
        ("resreq", session.spec.resources, spec.resources),
        ("min_instances", session.spec.min_instances, spec.min_instances),
        ("max_instances", session.spec.max_instances, spec.max_instances),
        ("batch_size", session.spec.batch_size, spec.batch_size),
        ("priority", session.spec.priority, spec.priority),
        ("require", format_labels(session.spec.require), format_labels(spec.require)),
        ("durability", session.spec.durability, spec.durability),
        ("max_attempts", session.spec.max_attempts, spec.max_attempts),
        ("task_timeout_ms", session.spec.task_timeout_ms, spec.task_timeout_ms),
        ("deadline_ms", session.spec.deadline_ms, spec.deadline_ms),
        ("retry_on_failure", session.spec.retry_on_failure, spec.retry_on_failure),
        ("retry_on", session.spec.retry_on, spec.retry_on),
        ("client_lost_ms", session.spec.client_lost_ms, spec.client_lost_ms),
    ):
        if ours != theirs:
            raise InvalidRequest(
                f"session {session.name!r} spec mismatch: {name} differs "
                f"(the session has {ours}, the request {theirs})"
            )


def _create(
    state: State, tenant: Tenant, name: str, spec: SessionSpec, reply: Reply, now: float
) -> None:
    check_name(name, "session")
    state.application(tenant, spec.application)
    check_possible(state, spec)
    backlog = state.backlogs.of(tenant)
    backlog.check_session()
    number = SessionNumber(state.next_session)
    state.next_session += 1
    session = Session(number, tenant, name, spec, milliseconds(now), backlog)
    backlog.add_session(1)
    state.sessions[number] = session
    state.names[(tenant, name)] = session
    state.touch_session(session)
    put = SessionPut(number, tenant, name, spec, session.state, session.created_ms)
    _store_session(state, session, put, ReplySession(session, [reply]))
    if spec.min_instances > 0:
        state.replan = True
    await_client(state, session, now, FIRST_ATTACH)


# --- close and delete --------------------------------------------------------------------------


def on_close(state: State, event: CloseSession, now: float) -> None:
    """Take back what is handed out, cancel what has not started, close.

    Refused while a task runs, unless the caller wants those cancelled too.
    """
    session = state.session_named(event.tenant, event.name)
    if session.state is SessionState.CLOSED or session.storing_close:
        # Durably, like the close itself: also of a session whose tasks are kept in memory.
        state.store(Barrier(), ReplySession(session, [event.reply]))
        return
    if session.closing is not None:
        session.closing.replies.append(event.reply)
        session.closing.cancel_running |= event.cancel_running
        review_close(state, session, now)
        return
    if session.running and not event.cancel_running:
        raise WrongState("Cannot close session with running tasks")
    session.closing = Closing([event.reply], event.cancel_running)
    # What was submitted before the close must be in the queue, to be cancelled with the rest.
    state.store(Barrier(), CloseBegins(session), session=session)


def orphan_overdue(state: State, session: Session, now: float) -> None:
    """Its last client has been gone for as long as it said: close it, and cancel its tasks."""
    if session.attachments or not session.accepts:
        return
    seconds = (session.spec.client_lost_ms or 0) / 1000
    event = Event(
        int(EventCode.CLIENT_LOST),
        f"closed: no client was attached for {seconds:g} s (on_client_lost)",
        milliseconds(now),
    )
    session.note(event)
    state.store(SessionEvent(session.number, event), session=session)
    session.closing = Closing([], cancel_running=True)
    state.store(Barrier(), CloseBegins(session), session=session)


def close_begins(state: State, cause: CloseBegins, now: float) -> None:
    """Every earlier submit is stored: take tasks back, or cancel at once."""
    session = cause.session
    if session.closing is None:
        return
    session.closing.begun = True
    state.deadlines.set(("close", session.number), now + CLOSE_WAIT)
    if not session.closing.cancel_running:
        for executor in session.executors.values():
            if executor.connected and executor.has_unfinished:
                ask_back(state, executor, len(executor.held))
    review_close(state, session, now)


def review_close(state: State, session: Session, now: float, *, overdue: bool = False) -> None:
    """Finish a close that waits, when nothing is in hand any more; refuse it when a task runs."""
    closing = session.closing
    if closing is None or not closing.begun:
        return
    if closing.cancel_running or not any(e.has_unfinished for e in session.executors.values()):
        _finish_close(state, session, now)
    elif session.running or overdue:
        session.closing = None
        state.deadlines.clear(("close", session.number))
        for reply in closing.replies:
            state.emit(Refuse(reply, WrongState("Cannot close session with running tasks")))
        dispatch(state, session)  # the session goes on with what was taken back
        rebalance(state, session)


def _finish_close(state: State, session: Session, now: float) -> None:
    replies = session.closing.replies if session.closing is not None else []
    session.closing = None
    session.storing_close = True
    state.deadlines.clear(("close", session.number))
    end_early(state, session, list(session.live.values()), _CANCELLED, now)
    put = SessionPut(
        session.number,
        session.tenant,
        session.name,
        session.spec,
        SessionState.CLOSED,
        session.created_ms,
        milliseconds(now),
    )
    _store_session(state, session, put, ReplySession(session, replies, closed=True))


def _store_session(
    state: State, session: Session, record: SessionPut | SessionDeleted, cause: ReplySession
) -> None:
    """Have the session itself stored: durably, whatever its tasks are, so that no number is reused."""
    if session.is_volatile:
        state.store(record, session=session)
        state.store(record, cause)
    else:
        state.store(record, cause, session=session)


def session_stored(state: State, cause: ReplySession, now: float) -> None:
    """A session's new state is on record: answer, and follow up a close."""
    session = cause.session
    if cause.closed:
        session.state = SessionState.CLOSED
        session.backlog.add_session(-1)
        state.touch_session(session)
        session.storing_close = False
        session.closed_ms = milliseconds(now)
        session.queue.clear()
        session.resting.clear()
        # Its submitters stay known: a client that reconnects learns which submits were accepted.
        for executor in list(session.executors.values()):
            unbind(state, executor, now)
            if executor.state is ExecutorState.UNBINDING:
                state.deadlines.set(("leave", executor.id), now + LEAVE_TIMEOUT)
        for attachment in list(session.attachments.values()):
            serve(state, session, attachment)
        state.replan = True
    view = session_view(session)
    for reply in cause.replies:
        state.emit(Answer(reply, view))


def on_delete(state: State, event: DeleteSession, now: float) -> None:
    """Forget a closed session, and an application that only it had if nobody named that."""
    session = state.session_named(event.tenant, event.name)
    if session.state is not SessionState.CLOSED:
        raise WrongState(f"session {event.name!r} is open; close it before it is deleted")
    for attachment in session.attachments.values():
        state.attachments.pop(attachment.id, None)
        if not attachment.told_closed:
            # It had not taken all outcomes yet, and now never will.
            state.emit(SendSessionClosed(attachment.id))
    del state.sessions[session.number]
    del state.names[(session.tenant, session.name)]
    _store_session(
        state, session, SessionDeleted(session.number), ReplySession(session, [event.reply])
    )
    _forget_application(state, session)


def _forget_application(state: State, session: Session) -> None:
    # Every change of a script makes another one, and each is as large as what its service holds.
    known = state.application_of(session)
    if known is None or not known.spec.pickled_service:
        return  # most are named, and no other session need be looked at
    if any(
        other.spec.application == known.name and known.tenant in (other.tenant, DEFAULT_TENANT)
        for other in state.sessions.values()
    ):
        return
    if is_content_name(known.name, known.spec):
        del state.applications[(known.tenant, known.name)]
        state.store(ApplicationDeleted(known.tenant, known.name))


# --- cancel ------------------------------------------------------------------------------------


def on_cancel(state: State, event: CancelTasks, now: float) -> None:
    """Make tasks final as cancelled, whether they wait or run; final ones stay as they are."""
    attachment = state.attachments.get(event.attachment)
    session = state.sessions.get(attachment.session) if attachment is not None else None
    if session is None:
        raise NotFound("the session of this cancel is not attached")
    ids = dict.fromkeys(event.task_ids)
    tasks = [t for i in ids if (t := session.live.get(i)) is not None]
    end_early(state, session, tasks, _CANCELLED_BY_USER, now)
    state.store(Barrier(), ReplyDone(event.reply), session=session)


def reply_done(state: State, cause: ReplyDone) -> None:
    """The record is stored: say so."""
    state.emit(Done(cause.reply))
