"""What callers are shown: the core's views as v1 messages, no larger than a client can receive.

A released client receives at most 4 MiB, gRPC's default, and an answer above that would end its
call with an error that explains nothing. So an answer that does not fit is cut in this order, and
each cut is said in an event of code 1003 (``PAYLOAD_OMITTED``):

1. a task's input, which its creator had; a session's common data likewise;
2. a task's output, in lists only: one large task must not end the list of the others.

What still does not fit is refused with RESOURCE_EXHAUSTED, naming the size and the limit.
"""

from collections.abc import Callable, Iterable, MutableSequence
from typing import cast

from flame.core.effects import (
    ApplicationView,
    ExecutorView,
    NodeView,
    SessionView,
    TaskView,
    TenantView,
    TokenView,
)
from flame.model.errors import ResourceExhausted
from flame.model.resources import format_bytes
from flame.model.specs import Event, EventCode
from flame.model.task_notes import NO_NOTES
from flame.wire import admin, codec, v1


def application_message(view: ApplicationView) -> v1.Application:
    """An application; those that exist are enabled."""
    return v1.Application(
        metadata=v1.Metadata(id=view.name, name=view.name),
        spec=codec.application_spec_to(view.spec),
        status=v1.ApplicationStatus(
            state=v1.ApplicationState.Enabled, creation_time=view.created_ms
        ),
    )


def session_message(view: SessionView) -> v1.Session:
    """A session with its counts and events."""
    return v1.Session(
        metadata=v1.Metadata(id=view.name, name=view.name),
        spec=codec.session_spec_to(view.spec),
        status=v1.SessionStatus(
            state=cast(v1.SessionState, int(view.state)),
            creation_time=view.created_ms,
            completion_time=view.closed_ms,
            pending=view.pending,
            running=view.running,
            succeed=view.succeeded,
            failed=view.failed,
            cancelled=view.cancelled,
            events=[codec.event_to(event) for event in view.events],
            number=view.number,
            tenant=view.tenant,
            waiting=view.waiting,
            preempted=view.preemptions,
            preempted_ms=int(view.preempted_seconds * 1000),
            standing_by=view.standing_by,
        ),
    )


def task_message(view: TaskView) -> v1.Task:
    """A task; its failure is an event."""
    # Filled in place: a message that is handed to a constructor is serialised and parsed to be copied,
    # and this is done twice for every task of a released client.
    message = v1.Task()
    metadata, spec, status = message.metadata, message.spec, message.status
    metadata.id = metadata.name = str(view.task_id)
    spec.session_id = view.session_name
    if view.input is not None:
        spec.input = view.input
    if view.output is not None:
        spec.output = view.output
    if view.notes is not NO_NOTES:
        spec.labels.extend(codec.labels_to(view.notes.labels))
        spec.input_location = view.notes.input_location
        spec.output_location = view.notes.output_location
    status.state = cast(v1.TaskState, int(view.state))
    status.creation_time = view.created_ms
    if view.finished_ms is not None:
        status.completion_time = view.finished_ms
    status.attempt = view.attempt
    if view.failure is not None:
        status.events.extend(
            codec.event_to(event)
            for event in codec.failure_events(view.failure, view.finished_ms or view.created_ms)
        )
    for attempt in view.history:
        event = Event(EventCode.ATTEMPT_SPENT, str(attempt), attempt.ended_ms, attempt.executor)
        status.events.append(codec.event_to(event))
    return message


def executor_message(view: ExecutorView) -> v1.Executor:
    """An executor, and the session that it serves."""
    return v1.Executor(
        metadata=v1.Metadata(id=view.executor, name=view.executor),
        spec=v1.ExecutorSpec(node=view.node, resreq=codec.resources_to(view.resources)),
        status=v1.ExecutorStatus(
            state=cast(v1.ExecutorState, int(view.state)),
            session_id=view.session_name,
            gpu_ids=view.gpu_ids,
            rank=view.rank,
            standby=view.standby,
        ),
    )


def node_message(view: NodeView, heartbeat_seconds: int) -> v1.Node:
    """A node; ``heartbeat_seconds`` is its last heartbeat since the epoch."""
    return v1.Node(
        metadata=v1.Metadata(id=view.node, name=view.node),
        spec=v1.NodeSpec(hostname=view.hostname, labels=codec.labels_to(view.labels)),
        status=v1.NodeStatus(
            state=cast(v1.NodeState, int(view.state)),
            capacity=codec.resources_to(view.capacity),
            allocatable=codec.resources_to(view.allocatable),
            info=v1.NodeInfo(arch=view.arch, os=view.os),
            addresses=[v1.NodeAddress(type=kind, address=text) for kind, text in view.addresses],
            last_heartbeat_time=heartbeat_seconds,
            cordoned=view.cordoned,
            draining=view.draining,
            executors=view.executors,
            isolation=view.isolation,
        ),
    )


def drain_progress(view: NodeView) -> admin.DrainProgress:
    """What is left on a node."""
    return admin.DrainProgress(
        executors=view.executors,
        running=view.running,
        held=view.held,
        sessions=view.waited_for,
    )


def tenant_message(view: TenantView) -> admin.TenantMessage:
    """A tenant, and how well it is served."""
    return admin.TenantMessage(
        spec=admin.tenant_spec_to(view.spec),
        status=admin.TenantStatus(
            declared=view.declared,
            creation_time=view.created_ms,
            got=view.got,
            deserved=view.deserved,
            usage=view.usage,
            usage_deserved=view.usage_deserved,
            open_sessions=view.open_sessions,
            executors=view.executors,
            queued_tasks=view.queued_tasks,
            queued_bytes=view.queued_bytes,
        ),
    )


def token_message(view: TokenView) -> admin.Token:
    """A token, without its secret."""
    return admin.Token(
        id=view.token,
        role=view.role.value,
        tenants=view.tenants,
        note=view.note,
        creation_time=view.created_ms,
    )


# --- no larger than a client can receive -------------------------------------------------------

#: Asked only when an answer is above what every client receives, so that small ones cost nothing.
LimitOf = Callable[[], int]


def encode_task(
    view: TaskView, limit_of: LimitOf, *, listed: bool = False, skipped: int = 0
) -> bytes:
    """Return the message's bytes, cut as the module says.

    ``skipped`` states before this one were not told; the message says so.

    Raises:
        ResourceExhausted: The output alone is more than the client receives (not in lists).
    """
    message = task_message(view)
    if skipped:
        text = f"{skipped} changes before this one were not told: the watcher was slow"
        event = Event(EventCode.CHANGES_SKIPPED, text, view.finished_ms or view.created_ms)
        message.status.events.append(codec.event_to(event))
    data = message.SerializeToString()
    if len(data) <= v1.RELEASED_MAX_RECEIVE or len(data) <= (limit := limit_of()):
        return data
    if view.input:
        message.spec.ClearField("input")
        _note_omitted(message.status.events, "input", view.input, limit, view.created_ms)
        data = message.SerializeToString()
    if len(data) > limit and listed and view.output:
        message.spec.ClearField("output")
        _note_omitted(message.status.events, "output", view.output, limit, view.created_ms)
        data = message.SerializeToString()
    if len(data) > limit:
        raise _too_large(f"task {view.task_id} of session {view.session_name!r}", len(data), limit)
    return data


def encode_session(view: SessionView, limit_of: LimitOf) -> bytes:
    """Return the message's bytes, without the common data if that does not fit.

    Raises:
        ResourceExhausted: Even so it is more than the client receives.
    """
    message = session_message(view)
    data = message.SerializeToString()
    if len(data) <= v1.RELEASED_MAX_RECEIVE or len(data) <= (limit := limit_of()):
        return data
    _omit_common_data(message, limit)
    return _fitting(message, f"session {view.name!r}", limit)


def encode_sessions(views: Iterable[SessionView], limit_of: LimitOf) -> bytes:
    """Return the list's bytes; if it does not fit, without the sessions' common data.

    Raises:
        ResourceExhausted: Even so it is more than the client receives.
    """
    message = v1.SessionList(sessions=[session_message(view) for view in views])
    data = message.SerializeToString()
    if len(data) <= v1.RELEASED_MAX_RECEIVE or len(data) <= (limit := limit_of()):
        return data
    for session in message.sessions:
        _omit_common_data(session, limit)
    return _fitting(message, f"the list of {len(message.sessions)} sessions", limit)


def encode_application(
    view: ApplicationView, limit_of: LimitOf, packages: Iterable[v1.NodePackage] = ()
) -> bytes:
    """Return the message's bytes; the pickled service, which only executors read, may be cut."""
    message = application_message(view)
    message.status.packages.extend(packages)
    data = message.SerializeToString()
    if len(data) <= v1.RELEASED_MAX_RECEIVE or len(data) <= (limit := limit_of()):
        return data
    _omit_service(message)
    return _fitting(message, f"application {view.name!r}", limit)


def encode_applications(views: Iterable[ApplicationView], limit_of: LimitOf) -> bytes:
    """Return the list's bytes; pickled services, which only executors read, may be cut."""
    message = v1.ApplicationList(applications=[application_message(view) for view in views])
    data = message.SerializeToString()
    if len(data) <= v1.RELEASED_MAX_RECEIVE or len(data) <= (limit := limit_of()):
        return data
    for application in message.applications:
        _omit_service(application)
    return _fitting(message, f"the list of {len(message.applications)} applications", limit)


def _omit_service(message: v1.Application) -> None:
    message.spec.ClearField("pickled_service")
    message.spec.ClearField("local_modules")


def _omit_common_data(message: v1.Session, limit: int) -> None:
    if message.spec.common_data:
        payload = message.spec.common_data
        message.spec.ClearField("common_data")
        created_ms = message.status.creation_time
        _note_omitted(message.status.events, "common_data", payload, limit, created_ms)


def _note_omitted(
    events: MutableSequence[v1.Event], field: str, payload: bytes, limit: int, created_ms: int
) -> None:
    text = (
        f"{field} of {len(payload)} bytes left out: "
        f"the answer is above the {format_bytes(limit)} ({limit} bytes) that this client receives"
    )
    events.append(codec.event_to(Event(EventCode.PAYLOAD_OMITTED, text, created_ms)))


def _fitting(
    message: v1.Session | v1.SessionList | v1.Application | v1.ApplicationList,
    what: str,
    limit: int,
) -> bytes:
    data: bytes = message.SerializeToString()
    if len(data) > limit:
        raise _too_large(what, len(data), limit)
    return data


def _too_large(what: str, size: int, limit: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"{what} takes {size} bytes; this client receives at most {limit} "
        f"({format_bytes(limit)}). A client says how much it receives in the call metadata "
        f"{v1.MAX_RECEIVE_KEY!r}"
    )
