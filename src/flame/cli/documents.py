"""Flame's things as people and programs read them: rows, properties and documents.

A document has the shape of ``flmctl register``'s files: ``metadata``, ``spec``, ``status``. So what
``flmctl view -a APP -o yaml`` prints can be edited and given to ``flmctl update``.
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flame.model.labels import format_labels, format_preferences
from flame.model.resources import Resources, format_bytes, slots_of
from flame.model.specs import ApplicationSpec, Durability, Event, SessionSpec, SessionState
from flame.model.tenant_text import format_amount, write_tenant
from flame.model.volumes import Volume
from flame.sdk.admin import TenantInfo, TokenInfo
from flame.sdk.views import Application, Executor, Node, NodePackage, SessionInfo, Task

if TYPE_CHECKING:
    from flame.sdk.managers import ManagerInfo

Document = dict[str, Any]

#: Titles and usual widths of the tables; the mission's widths where it shows a table.
READY = "ready"  # a package's state
LOG_LINES = 15  # of a package's log that are shown

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
APPLICATIONS = {"Name": 15, "State": 10, "Shim": 10, "Tags": 15, "Created": 12, "Command": 20}
EXECUTORS = {"ID": 40, "State": 12, "Session": 20, "Node": 15}
NODES = {
    "NAME": 15,
    "HOSTNAME": 20,
    "STATUS": 10,
    "CPU": 8,
    "MEMORY": 10,
    "ARCH": 10,
    "OS": 10,
    "GPU": 5,
    "LABELS": 20,
}
MANAGERS = {"ENDPOINT": 30, "ROLE": 12, "DETAIL": 20}
TENANTS = {
    "NAME": 20,
    "WEIGHT": 8,
    "QUOTA": 15,
    "LIMIT": 15,
    "DESERVED": 10,
    "GOT": 8,
    "RATIO": 7,
    "USAGE": 8,
    "SESSIONS": 10,
    "EXECUTORS": 11,
    "QUEUED": 8,
    "BYTES": 8,
}
TOKENS = {"ID": 18, "ROLE": 10, "TENANTS": 20, "NOTE": 15, "CREATED": 20}
#: Labels that every node has by itself, and that a table shows already.
OWN_LABELS = ("arch", "os", "hostname", "node")


def clock_time(milliseconds: int | None) -> str | None:
    """The local time of day (``%T``) of milliseconds since the epoch."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%H:%M:%S")


def date_time(milliseconds: int | None) -> str | None:
    """Local date and time, to the millisecond, with the offset from UTC."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")


def state_name(state: Any) -> str:
    """``NOT_READY`` as people read it: ``NotReady``."""
    return "".join(part.capitalize() for part in str(state.name).split("_"))


def payload(value: bytes | None) -> Any:
    """Bytes for a document: their text where they are text, else base64 under a key that says so."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return {"base64": base64.b64encode(value).decode("ascii")}


# --- Sessions ----------------------------------------------------------------------------------


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


def _retries(spec: SessionSpec) -> str:
    which = ", ".join(spec.retry_on) or "any failure"
    return f"{spec.retry_on_failure}, on {which}"


def session_properties(info: SessionInfo) -> list[tuple[str, object]]:
    """What ``flmctl view -s`` prints."""
    spec = info.spec
    return [
        ("ID", info.name),
        ("Number", info.number),
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
        ("Pending", f"{info.pending:,}"),
        ("Running", f"{info.running:,}"),
        ("Succeeded", f"{info.succeeded:,}"),
        ("Failed", f"{info.failed:,}"),
        ("Cancelled", f"{info.cancelled:,}"),
        ("Events", _events(info.events)),
    ]


def session_document(info: SessionInfo) -> Document:
    """The whole session."""
    spec = info.spec
    return {
        "metadata": {"name": info.name, "number": info.number},
        "spec": _present(
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
            common_data=payload(spec.common_data),
        ),
        "status": _present(
            state=state_name(info.state),
            slots=slots_of(spec.resources),
            created=date_time(info.created_ms),
            closed=date_time(info.completed_ms),
            waiting=info.waiting or None,
            preempted=info.preempted or None,
            preempted_seconds=info.preempted_seconds or None,
            pending=info.pending,
            running=info.running,
            succeeded=info.succeeded,
            failed=info.failed,
            cancelled=info.cancelled,
            events=_event_documents(info.events),
        ),
    }


# --- Tasks -------------------------------------------------------------------------------------


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
        ("Events", _events(task.events)),
    ]


def task_document(task: Task) -> Document:
    """The whole task."""
    return {
        "metadata": {"id": int(task.id), "session": task.session},
        "spec": _present(
            labels=dict(task.labels) or None,
            input_location=task.input_location or None,
            output_location=task.output_location or None,
            input=payload(task.input),
            output=payload(task.output),
        ),
        "status": _present(
            state=state_name(task.state),
            attempt=task.attempt or None,
            created=date_time(task.created_ms),
            completed=date_time(task.completed_ms),
            events=_event_documents(task.events),
        ),
    }


# --- Applications ------------------------------------------------------------------------------


def application_row(application: Application) -> list[object]:
    """A row of :data:`APPLICATIONS`."""
    spec = application.spec
    return [
        application.name,
        state_name(application.state),
        state_name(spec.shim),
        ",".join(spec.labels),
        clock_time(application.created_ms),
        _command(spec),
    ]


def application_properties(application: Application) -> list[tuple[str, object]]:
    """What ``flmctl view -a`` prints."""
    spec = application.spec
    return [
        ("Name", application.name),
        ("State", state_name(application.state)),
        ("Created", date_time(application.created_ms)),
        ("Description", spec.description),
        ("Shim", state_name(spec.shim)),
        ("Labels", ", ".join(spec.labels)),
        ("Image", spec.image),
        ("Command", _command(spec)),
        ("Entry point", spec.entry_point),
        ("Environment", "\n".join(f"{name}={value}" for name, value in spec.environments)),
        ("Directory", spec.working_directory),
        ("Max instances", spec.max_instances),
        ("Delay release", None if spec.delay_release is None else f"{spec.delay_release} s"),
        ("Reusable", "yes" if spec.reusable else "no"),
        ("Sandbox", spec.sandbox.value),
        ("Preload", "yes" if spec.preload else "no"),
        ("Volumes", "\n".join(f"{v.name}: {v.path} ({_mode(v)})" for v in spec.volumes)),
        ("Package", spec.url),
        ("Installer", spec.installer),
        ("Nodes", "\n".join(map(_package_line, application.packages))),
        ("Input", spec.schema_input),
        ("Output", spec.schema_output),
        ("Common data", spec.schema_common_data),
    ]


def application_document(application: Application) -> Document:
    """The whole application, in the form that ``flmctl register`` reads."""
    return {
        "metadata": {"name": application.name},
        "spec": specification_document(application.spec),
        "status": _present(
            state=state_name(application.state),
            created=date_time(application.created_ms),
            packages=[_package_document(package) for package in application.packages] or None,
        ),
    }


def _package_line(package: NodePackage) -> str:
    """A node's package; where it failed, or is at work, with the end of its log."""
    text = f"{package.node}  {package.state} since {date_time(package.since_ms)}"
    if package.state == READY:
        return text
    said = "\n".join(f"  {line}" for line in package.log.strip().splitlines()[-LOG_LINES:])
    return "\n".join(filter(None, [f"{text}: {package.message}", said]))


def _package_document(package: NodePackage) -> Document:
    return {
        "node": package.node,
        "url": package.url,
        "state": package.state,
        "since": date_time(package.since_ms),
        "message": package.message,
        "log": package.log,
    }


def _mode(volume: Volume) -> str:
    return "rw" if volume.writable else "ro"


def specification_document(spec: ApplicationSpec) -> Document:
    """The ``spec`` of an application's file."""
    schema = _present(
        input=spec.schema_input, output=spec.schema_output, common_data=spec.schema_common_data
    )
    return _present(
        shim=state_name(spec.shim),
        description=spec.description,
        labels=list(spec.labels) or None,
        image=spec.image,
        command=spec.command,
        arguments=list(spec.arguments) or None,
        entry_point=spec.entry_point or None,
        shim_options=dict(spec.shim_options) or None,
        environments=dict(spec.environments) or None,
        working_directory=spec.working_directory,
        max_instances=spec.max_instances,
        delay_release=spec.delay_release,
        reusable=spec.reusable or None,
        preload=spec.preload or None,
        sandbox=spec.sandbox.value or None,
        volumes=[{"name": v.name, "path": v.path, "mode": _mode(v)} for v in spec.volumes] or None,
        schema=schema or None,
        url=spec.url,
        installer=spec.installer,
        pickled_service=_base64(spec.pickled_service),
        pickled_with=spec.pickled_with or None,
        local_modules=_base64(spec.local_modules),
    )


# --- Executors and nodes -----------------------------------------------------------------------


def manager_row(manager: "ManagerInfo") -> list[object]:
    """A row of :data:`MANAGERS`."""
    return [manager.endpoint, manager.role, manager.detail]


def manager_document(manager: "ManagerInfo") -> Document:
    """The whole session manager."""
    return {
        "metadata": {"endpoint": manager.endpoint},
        "status": _present(role=manager.role, detail=manager.detail or None),
    }


def executor_row(executor: Executor) -> list[object]:
    """A row of :data:`EXECUTORS`."""
    return [executor.id, state_name(executor.state), executor.session, executor.node]


def executor_document(executor: Executor) -> Document:
    """The whole executor."""
    return {
        "metadata": {"id": executor.id},
        "spec": _present(
            node=executor.node,
            resources=resources_document(executor.resources),
            shim=state_name(executor.shim),
        ),
        "status": _present(
            state=state_name(executor.state),
            session=executor.session,
            gpu_ids=list(executor.gpu_ids) or None,
            rank=executor.rank,
        ),
    }


def node_state(node: Node) -> str:
    """``Ready``, and whether it may be used: ``Ready,cordoned``, or how far its drain is."""
    name = state_name(node.state)
    if node.draining:
        return f"{name},{'draining' if node.executors else 'drained'}"
    return f"{name},cordoned" if node.cordoned else name


def node_row(node: Node) -> list[object]:
    """A row of :data:`NODES`."""
    return [
        node.name,
        node.hostname,
        node_state(node),
        f"{node.capacity.cpu_millis / 1000:g}",
        format_bytes(node.capacity.memory_bytes),
        node.arch,
        node.os,
        node.capacity.gpus,
        format_labels(tuple(pair for pair in node.labels if pair[0] not in OWN_LABELS)),
    ]


def node_properties(node: Node) -> list[tuple[str, object]]:
    """What ``flmctl view -n`` prints."""
    return [
        ("Name", node.name),
        ("Hostname", node.hostname),
        ("State", node_state(node)),
        ("Executors", node.executors),
        ("Capacity", node.capacity),
        ("Allocatable", node.allocatable),
        ("Arch", node.arch),
        ("OS", node.os),
        ("Labels", format_labels(node.labels)),
        ("Addresses", "\n".join(f"{kind}: {address}" for kind, address in node.addresses)),
        ("Isolation", node.isolation),
    ]


def node_document(node: Node) -> Document:
    """The whole node."""
    return {
        "metadata": {"name": node.name},
        "spec": {"hostname": node.hostname, "labels": dict(node.labels)},
        "status": _present(
            state=state_name(node.state),
            cordoned=node.cordoned,
            draining=node.draining,
            executors=node.executors,
            capacity=resources_document(node.capacity),
            allocatable=resources_document(node.allocatable),
            arch=node.arch,
            os=node.os,
            addresses=[{"type": kind, "address": address} for kind, address in node.addresses],
            isolation=node.isolation or None,
        ),
    }


def resources_document(resources: Resources) -> Document:
    """Cores, bytes, GPUs, and what else the site counts."""
    cores = resources.cpu_millis / 1000
    return {
        "cpu": int(cores) if cores == int(cores) else cores,
        "memory": resources.memory_bytes,
        "gpu": resources.gpus,
        **dict(resources.extras),
    }


# --- Tenants and tokens ------------------------------------------------------------------------


def tenant_row(info: TenantInfo) -> list[object]:
    """A row of :data:`TENANTS`."""
    return [
        info.name,
        f"{info.spec.weight:g}",
        _amount(info.spec.quota),
        _amount(info.spec.limit),
        _percent(info.deserved),
        _percent(info.got),
        _ratio(info),
        _percent(info.usage),
        info.open_sessions,
        info.executors,
        info.queued_tasks,
        format_bytes(info.queued_bytes),
    ]


def tenant_properties(info: TenantInfo) -> list[tuple[str, object]]:
    """What ``flmctl tenant view`` prints."""
    spec = info.spec
    return [
        ("Name", info.name),
        ("Declared", "by the configuration file" if info.declared else "no"),
        ("Created", date_time(info.created_ms)),
        ("Weight", f"{spec.weight:g}"),
        ("Quota", _amount(spec.quota)),
        ("Limit", _amount(spec.limit)),
        ("Lends", "yes" if spec.lends else "no"),
        ("Borrows", "yes" if spec.borrows else "no"),
        ("Sessions", _of(info.open_sessions, spec.max_sessions)),
        ("Queued tasks", _of(info.queued_tasks, spec.max_queued_tasks)),
        ("Queued bytes", _of(info.queued_bytes, spec.max_queued_bytes)),
        ("Executors", info.executors),
        ("Deserved", f"{_percent(info.deserved)} of the cluster"),
        ("Got", f"{_percent(info.got)} of the cluster"),
        ("Got/deserved", _ratio(info)),
        ("Over time", f"got {_percent(info.usage)}, deserved {_percent(info.usage_deserved)}"),
    ]


def tenant_document(info: TenantInfo) -> Document:
    """The whole tenant, in the form that ``flmctl tenant apply`` reads."""
    return {
        "metadata": {"name": info.name},
        "spec": write_tenant(info.spec),
        "status": _present(
            declared=info.declared,
            created=date_time(info.created_ms),
            deserved=info.deserved,
            got=info.got,
            ratio=info.ratio,
            usage=info.usage,
            usage_deserved=info.usage_deserved,
            open_sessions=info.open_sessions,
            executors=info.executors,
            queued_tasks=info.queued_tasks,
            queued_bytes=info.queued_bytes,
        ),
    }


def token_row(info: TokenInfo) -> list[object]:
    """A row of :data:`TOKENS`."""
    return [info.id, info.role, ",".join(info.tenants), info.note, date_time(info.created_ms)]


def token_document(info: TokenInfo) -> Document:
    """All that is known of a token."""
    return {
        "metadata": {"id": info.id},
        "spec": {"role": info.role, "tenants": list(info.tenants), "note": info.note},
        "status": _present(created=date_time(info.created_ms)),
    }


def _amount(amount: Resources | None) -> str | None:
    return None if amount is None else format_amount(amount)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _ratio(info: TenantInfo) -> str | None:
    return None if info.ratio is None else f"{info.ratio:.2f}"


def _of(count: int, most: int | None) -> str:
    return f"{count:,}" if most is None else f"{count:,} of {most:,}"


# --- Parts -------------------------------------------------------------------------------------


def _base64(data: bytes) -> str | None:
    return base64.b64encode(data).decode("ascii") if data else None


def _present(**values: Any) -> Document:
    return {key: value for key, value in values.items() if value is not None}


def _instances(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"


def _command(spec: ApplicationSpec) -> str | None:
    if spec.command:
        return " ".join((spec.command, *spec.arguments))
    if spec.pickled_service:
        return f"(pickled, {format_bytes(len(spec.pickled_service))})"
    return spec.entry_point or None


def _shown(value: bytes | None) -> str | None:
    if value is None:
        return None
    shown = payload(value)
    text = shown if isinstance(shown, str) else shown["base64"]
    kept = text if len(text) <= 200 else f"{text[:200]}..."
    return f"{kept} ({len(value):,} bytes{'' if shown is text else ', base64'})"


def _events(events: Iterable[Event]) -> str:
    return "\n".join(
        f"{date_time(event.created_ms) or '-'}  {event.code}  {event.message}" for event in events
    )


def _event_documents(events: Iterable[Event]) -> list[Document] | None:
    return [
        {"code": event.code, "message": event.message, "created": date_time(event.created_ms)}
        for event in events
    ] or None
