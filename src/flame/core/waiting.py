"""Why a session has less than it could use, and which requests no node could ever serve."""

from flame.core.reports import kept_by, report
from flame.core.session import Session
from flame.core.state import State
from flame.model.errors import InvalidRequest
from flame.model.resources import Resources
from flame.model.specs import SessionState
from flame.scheduling.explain import largest_offer, why_waiting


def waiting_for(state: State, session: Session, now: float) -> str:
    """Return a sentence with numbers; empty: it waits for nothing but its own tasks."""
    if session.state is not SessionState.OPEN:
        return ""
    if session.unreported:
        return (
            f"after a restart, {len(session.unreported)} of its executors have not said yet "
            "what they hold"
        )
    if now < session.retry_at and session.unfinished > kept_by(session):
        return (
            f"no executor could be bound in {session.bind_failures or 'several'} attempts; "
            f"the next is in {session.retry_at - now:.1f} s"
        )
    report(state, now)
    return why_waiting(state.ledger, session.number) or _own_limit(state, session)


def _own_limit(state: State, session: Session) -> str:
    """Say which of its own limits keeps it from having more, if one does."""
    kept = kept_by(session)
    if session.queued == 0:
        return ""
    executors = "1 executor" if kept == 1 else f"{kept} executors"
    application = state.application(session.tenant, session.spec.application)
    for whose, limit in (
        ("its", session.spec.max_instances),
        (f"application {application.name}'s", application.spec.max_instances),
    ):
        if limit is not None and limit <= kept:
            return f"it has {executors}, as many as {whose} max_instances of {limit} allows"
    return ""


def check_possible(state: State, request: Resources, now: float) -> None:
    """Refuse what no node could hold, even if it were empty.

    Without nodes everything is accepted: one may come. So it is while a node is away, which may come
    back larger.

    Raises:
        InvalidRequest: It names what the largest node has.
    """
    report(state, now)
    rooms = state.ledger.rooms.by_node.values()
    largest = largest_offer(state.ledger)
    if largest is None or any(
        room.machine.away or request.fits_in(room.machine.capacity) for room in rooms
    ):
        return
    raise InvalidRequest(
        f"resreq: an executor would take {request}, which no node has; "
        f"the largest node on record has {largest}"
    )
