"""Why a session has less than it could use, and which requests no node could ever serve."""

from collections.abc import Sequence

from flame.core.reports import kept_by, report
from flame.core.session import Session
from flame.core.state import State
from flame.model.errors import InvalidRequest
from flame.model.ids import NodeName
from flame.model.labels import Labels, format_labels, match
from flame.model.resources import Resources
from flame.model.specs import NodeState, SessionSpec, SessionState
from flame.scheduling.explain import largest, missing_labels, why_waiting


def waiting_for(state: State, session: Session, now: float) -> str:
    """Return a sentence with numbers; empty: it waits for nothing but its own tasks."""
    if session.state is not SessionState.OPEN:
        return ""
    if session.unreported:
        return (
            f"after a restart, {len(session.unreported)} of its executors have not said yet "
            "what they hold"
        )
    preparing = sorted({e.node for e in session.executors.values() if e.preparing})
    if preparing and session.queued:
        return (
            f"the package of application {session.spec.application!r} is being prepared on "
            f"{', '.join(preparing)}; `flmctl view -a {session.spec.application}` shows how far it is"
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


def check_possible(state: State, spec: SessionSpec) -> None:
    """Refuse what no node could hold, even if it were empty.

    Without nodes everything is accepted: one may come. So it is while a node is away, which may come
    back larger.

    Raises:
        InvalidRequest: It names the labels that no node has, or what the largest node offers.
    """
    nodes = [node for node in state.nodes.values() if node.state is not NodeState.NOT_READY]
    if not nodes or any(node.state is NodeState.UNKNOWN for node in nodes):
        return
    problem = impossible([(n.name, n.capacity, n.labels) for n in nodes], spec)
    if problem:
        raise InvalidRequest(problem)


def impossible(nodes: Sequence[tuple[NodeName, Resources, Labels]], spec: SessionSpec) -> str:
    """Say why none of the nodes could ever hold an executor of the session; empty: one could."""
    missing = missing_labels([labels for _, _, labels in nodes], spec.require)
    if missing:
        return f"require: {missing}"
    suitable = [(name, capacity) for name, capacity, labels in nodes if match(spec.require, labels)]
    if any(spec.resources.fits_in(capacity) for _, capacity in suitable):
        return ""
    name, capacity = largest(suitable)
    labelled = f" with {format_labels(spec.require)}" if spec.require else ""
    return (
        f"resreq: an executor would take {spec.resources}, which no node{labelled} has; "
        f"the largest of them on record, {name}, has {capacity}"
    )
