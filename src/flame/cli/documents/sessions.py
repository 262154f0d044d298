"""Sessions and their tasks, as rows, properties and documents."""

from collections.abc import Iterable

from flame.cli.documents.values import (
    Document,
    clock_time,
    date_time,
    event_documents,
    event_lines,
    payload,
    present,
    resources_document,
    state_name,
)
from flame.model.labels import format_labels, format_preferences
from flame.model.resources import slots_of
from flame.model.specs import Durability, SessionSpec, SessionState
from flame.sdk.views import SessionInfo, Task

SESSIONS = {
    "ID": 10,
    "State": 10,
    "App": 15,
    "Slots": 10,
    "Pending": 10,
    "Running": 10,
    "Succeed": 10,
    "Failed": 10,
    "Created": 10,
}
SESSIONS_IN_FULL = {
    "ID": 20,
    "State": 10,
    "App": 15,
    "Resources": 16,
    "Priority": 10,
    "Pending": 10,
    "Running": 10,
    "Succeed": 10,
    "Failed": 10,
    "Created": 10,
}


def open_first(sessions: Iterable[SessionInfo]) -> list[SessionInfo]:
    """Open sessions before closed ones, each in the order of their creation."""
    return sorted(sessions, key=lambda info: (info.state is not SessionState.OPEN, info.number))


def session_row(info: SessionInfo) -> list[object]:
    """A row of :data:`SESSIONS`."""
    return [
        info.number,
        state_name(info.state),
        info.spec.application,
        slots_of(info.spec.resources),
        info.pending,
        info.running,
        info.succeeded,
        info.failed,
        clock_time(info.created_ms),
    ]


def session_row_in_full(info: SessionInfo) -> list[object]:
    """A row of :data:`SESSIONS_IN_FULL`."""
    return [
        info.name,
        state_name(info.state),
        info.spec.application,
        info.spec.resources,
        info.spec.priority,
        info.pending,
        info.running,
        info.succeeded,
        info.failed,
        clock_time(info.created_ms),
    ]


def session_properties(info: SessionInfo) -> list[tuple[str, object]]:
    """What ``flmctl view -s`` prints."""
    spec = info.spec
    return [
        ("ID", info.name),
        ("Number", info.number),
        ("Tenant", info.tenant),
        ("State", state_name(info.state)),
        ("Application", spec.application),
        ("Resources", spec.resources),
        ("Slots", slots_of(spec.resources)),
        ("Instances", _instances(spec.min_instances, spec.max_instances)),
        ("Batch size", spec.batch_size),
        ("Priority", spec.priority),
        *([("Requires", format_labels(spec.require))] if spec.require else []),
        *([("Prefers", format_preferences(spec.prefer))] if spec.prefer else []),
        *([("Near", ", ".join(spec.near))] if spec.near else []),
        *([("Stays warm", f"{spec.standby} s")] if spec.standby is not None else []),
        ("Durability", spec.durability.name.lower()),
        ("Attempts", spec.max_attempts),
        *([("Retries", _retries(spec))] if spec.retry_on_failure else []),
        ("Common data", None if spec.common_data is None else f"{len(spec.common_data):,} bytes"),
        ("Created", date_time(info.created_ms)),
        ("Closed", date_time(info.completed_ms)),
        *([("Waiting", info.waiting)] if info.waiting else []),
        *(
            [("Preempted", f"{info.preempted:,} runs of {info.preempted_seconds:,.1f} s in all")]
            if info.preempted
            else []
        ),
        *([("Standby", _standing_by(info.standing_by))] if info.standing_by else []),
        ("Pending", f"{info.pending:,}"),
        ("Running", f"{info.running:,}"),
        ("Succeeded", f"{info.succeeded:,}"),
        ("Failed", f"{info.failed:,}"),
        ("Cancelled", f"{info.cancelled:,}"),
        ("Events", event_lines(info.events)),
    ]


def session_document(info: SessionInfo) -> Document:
    """The whole session."""
    spec = info.spec
    return {
        "metadata": {"name": info.name, "number": info.number, "tenant": info.tenant},
        "spec": present(
            application=spec.application,
            resources=resources_document(spec.resources),
            min_instances=spec.min_instances,
            max_instances=spec.max_instances,
            batch_size=spec.batch_size,
            priority=spec.priority,
            durability=Durability(spec.durability).name.lower(),
            max_attempts=spec.max_attempts,
            retry_on_failure=spec.retry_on_failure,
            retry_on=list(spec.retry_on) or None,
            require=dict(spec.require) or None,
            prefer=format_preferences(spec.prefer) or None,
            near=list(spec.near) or None,
            standby=spec.standby,
            common_data=payload(spec.common_data),
        ),
        "status": present(
            state=state_name(info.state),
            slots=slots_of(spec.resources),
            created=date_time(info.created_ms),
            closed=date_time(info.completed_ms),
            waiting=info.waiting or None,
            preempted=info.preempted or None,
            preempted_seconds=info.preempted_seconds or None,
            standing_by=info.standing_by or None,
            pending=info.pending,
            running=info.running,
            succeeded=info.succeeded,
            failed=info.failed,
            cancelled=info.cancelled,
            events=event_documents(info.events),
        ),
    }


def task_properties(task: Task) -> list[tuple[str, object]]:
    """What ``flmctl view -s SSN -t TASK`` prints."""
    return [
        ("ID", task.id),
        ("Session", task.session),
        ("State", state_name(task.state)),
        ("Attempt", task.attempt or None),
        ("Created", date_time(task.created_ms)),
        ("Completed", date_time(task.completed_ms)),
        ("Labels", ", ".join(f"{name}={value}" for name, value in task.labels)),
        ("Input location", task.input_location),
        ("Output location", task.output_location),
        ("Input", _shown(task.input)),
        ("Output", _shown(task.output)),
        ("Events", event_lines(task.events)),
    ]


def task_document(task: Task) -> Document:
    """The whole task."""
    return {
        "metadata": {"id": int(task.id), "session": task.session},
        "spec": present(
            labels=dict(task.labels) or None,
            input_location=task.input_location or None,
            output_location=task.output_location or None,
            input=payload(task.input),
            output=payload(task.output),
        ),
        "status": present(
            state=state_name(task.state),
            attempt=task.attempt or None,
            created=date_time(task.created_ms),
            completed=date_time(task.completed_ms),
            events=event_documents(task.events),
        ),
    }


def _standing_by(count: int) -> str:
    executors = "1 executor" if count == 1 else f"{count} executors"
    return f"{executors} without work, warm until somebody needs the room"


def _retries(spec: SessionSpec) -> str:
    which = ", ".join(spec.retry_on) or "any failure"
    return f"{spec.retry_on_failure}, on {which}"


def _instances(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"


def _shown(value: bytes | None) -> str | None:
    if value is None:
        return None
    shown = payload(value)
    text = shown if isinstance(shown, str) else shown["base64"]
    kept = text if len(text) <= 200 else f"{text[:200]}..."
    return f"{kept} ({len(value):,} bytes{'' if shown is text else ', base64'})"
