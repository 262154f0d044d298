"""The store is full: what nobody was promised is refused, what has happened waits for room.

A submit that is not stored was acknowledged to nobody, so it is refused, and its ids and numbers are
free again. Results, lost leases and bindings are facts: their records stay, in order, and are stored
once there is room; an executor keeps its results until then. Callers who wait for any other record are
told, and the record stays: what they asked for may still come about.

While the store is full, calls that would add to it are refused at the door (see ``Cluster.handle``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flame.core.effects import Refuse, Store
from flame.core.events import Reply
from flame.core.records import Barrier, SessionDeleted, SessionPut, TasksSubmitted
from flame.core.session import Session
from flame.core.sessions import CloseBegins, ReplyDone, ReplySession
from flame.core.state import State
from flame.core.submission import (
    CreateStored,
    DuplicatesStored,
    SubmitStored,
    duplicates_stored,
    refuse_submit,
)
from flame.model.errors import ResourceExhausted


@dataclass(slots=True)
class StoreFull:
    """Nothing of these Store effects was stored, for want of room.

    The rule takes those out that shall not be tried again; the engine keeps the others.
    """

    stores: list[Store]
    error: ResourceExhausted


@dataclass(slots=True)
class StoreHasRoom:
    """A commit succeeded, or is worth trying."""


def on_store_full(state: State, event: StoreFull, now: float) -> None:
    """Refuse what can be refused; from now on, at the door."""
    state.full = str(event.error)
    rest: list[Store] = []
    for store in event.stores:
        match store.record, store.cause:
            case TasksSubmitted() as record, SubmitStored() | CreateStored() as cause:
                _take_back(state, record, cause)
            case _:
                rest.append(store)
    event.stores.clear()
    for store in rest:
        match store.record, store.cause:
            case _, DuplicatesStored() as repeated:
                _repeated(state, repeated)
            case Barrier(), ReplySession(_, replies):
                _refuse(state, replies)
            case SessionPut(), ReplySession(session, replies) as made if _is_new(made):
                _refuse(state, replies)
                _forget(state, session)
            case _:
                _tell(state, store)
                event.stores.append(store)


def on_store_has_room(state: State, event: StoreHasRoom, now: float) -> None:
    """Accept again."""
    state.full = ""


def _take_back(state: State, record: TasksSubmitted, cause: SubmitStored | CreateStored) -> None:
    """Undo a submit: no later one of its session is stored, so all of them are undone."""
    session = cause.session
    session.next_id = min(session.next_id, record.first_id)
    if isinstance(cause, CreateStored):
        _refuse(state, [cause.reply])
        return
    submitter = session.submitters.get(record.submitter)
    if submitter is not None:
        submitter.forget(record.first_number)
        if not submitter.next_number:
            del session.submitters[record.submitter]
    if cause.attachment in state.attachments:
        refuse_submit(
            state,
            cause.attachment,
            record.first_number,
            len(record.inputs),
            ResourceExhausted(state.full),
            cause.cost,
        )


def _repeated(state: State, cause: DuplicatesStored) -> None:
    """A submit that came again: what is still known of it is stored, the rest was taken back."""
    attachment = state.attachments.get(cause.attachment)
    if attachment is None:
        return
    submitter = state.sessions[attachment.session].submitters.get(attachment.submitter)
    first, last = cause.ranges[0].first_number, cause.ranges[-1]
    end = last.first_number + last.count
    middle = max(first, min(end, submitter.next_number if submitter else 0))
    cost = cause.cost
    if submitter is not None and middle > first:
        ranges = list(submitter.ids_of(first, middle - first))
        duplicates_stored(state, DuplicatesStored(attachment.id, ranges, cost))
        cost = 0
    if end > middle:
        error = ResourceExhausted(state.full)
        refuse_submit(state, attachment.id, middle, end - middle, error, cost)


def _is_new(cause: ReplySession) -> bool:
    """Whether the record makes the session, and nothing depends on it yet."""
    session = cause.session
    return not (
        cause.closed
        or session.storing_close
        or session.closing is not None
        or session.attachments
        or session.executors
    )


def _forget(state: State, session: Session) -> None:
    """The session was never made."""
    del state.sessions[session.number]
    del state.names[(session.tenant, session.name)]
    session.backlog.add_session(-1)
    state.touch_session(session)
    state.replan = True
    if session.is_volatile:
        state.store(SessionDeleted(session.number), session=session)


def _tell(state: State, store: Store) -> None:
    """Let nobody wait for a record that waits for room."""
    cause = store.cause
    if isinstance(cause, ReplySession):
        _refuse(state, cause.replies)
        cause.replies = []
    elif isinstance(cause, CloseBegins) and cause.session.closing is not None:
        _refuse(state, cause.session.closing.replies)
        cause.session.closing.replies = []
    elif isinstance(cause, ReplyDone):
        _refuse(state, [cause.reply])
        store.cause = None


def _refuse(state: State, replies: Sequence[Reply]) -> None:
    for reply in replies:
        state.emit(Refuse(reply, ResourceExhausted(state.full)))
