"""Specifications, resources and events: the model's values as v1 messages and back.

Reading checks everything that can be said without knowing the cluster's state, and names the field
that is wrong. Writing never fails. What is optional stays so: an absent field is ``None`` in the
model and absent on the wire again.
"""

from collections.abc import Iterable
from typing import cast

from flame.model.errors import InvalidRequest
from flame.model.ids import check_name
from flame.model.labels import Labels, check_labels, check_preferences
from flame.model.packages import kept_package
from flame.model.resource_text import check_extra
from flame.model.resources import UNIT, Resources, extras
from flame.model.retries import check_retry_on
from flame.model.specs import (
    DEFAULT_MAX_ATTEMPTS,
    ApplicationSpec,
    Durability,
    Event,
    EventCode,
    Failure,
    Sandbox,
    SessionSpec,
    ShimKind,
    TaskState,
)
from flame.model.task_notes import TaskNotes
from flame.model.volumes import Volume, check_volumes
from flame.wire import frames, v1

#: The largest numbers that the wire's and the store's integers hold.
_MAX_MEMORY = 2**63 - 1
_MAX_CPUS = 2**53
_MAX_MILLISECONDS = 100 * 366 * 24 * 3600 * 1000


# --- resources ---------------------------------------------------------------------------------


def resources_of(message: v1.ResourceRequirement, what: str = "resreq") -> Resources:
    """Read what an executor or a node has.

    Raises:
        InvalidRequest: A number is negative or beyond what can be stored.
    """
    if message.gpu < 0:
        raise InvalidRequest(f"{what}.gpu is {message.gpu}; it must be 0 or more")
    if message.cpu > _MAX_CPUS:
        raise InvalidRequest(f"{what}.cpu is {message.cpu}; at most {_MAX_CPUS} cores are allowed")
    if message.memory > _MAX_MEMORY:
        raise InvalidRequest(
            f"{what}.memory is {message.memory} bytes; at most {_MAX_MEMORY} are allowed"
        )
    if message.cpu_millis >= 1000:
        raise InvalidRequest(f"{what}.cpu_millis is {message.cpu_millis}; at most 999 are allowed")
    amounts: dict[str, int] = {}
    for extra in message.extras:
        check_extra(extra.name, f"{what}.extras")
        if extra.name in amounts:
            raise InvalidRequest(f"{what}.extras: {extra.name} is there twice")
        if extra.amount > _MAX_MEMORY:
            raise InvalidRequest(f"{what}.extras: at most {_MAX_MEMORY} {extra.name} are allowed")
        amounts[extra.name] = extra.amount
    return Resources(
        message.cpu * 1000 + message.cpu_millis, message.memory, message.gpu, extras(amounts)
    )


def resources_to(resources: Resources) -> v1.ResourceRequirement:
    """Write an amount. Released clients see whole cores only."""
    return v1.ResourceRequirement(
        cpu=resources.cpu_millis // 1000,
        cpu_millis=resources.cpu_millis % 1000,
        memory=resources.memory_bytes,
        gpu=resources.gpus,
        extras=[v1.NamedAmount(name=name, amount=amount) for name, amount in resources.extras],
    )


# --- labels ------------------------------------------------------------------------------------


def labels_of(messages: Iterable[v1.Label], what: str) -> Labels:
    """Read what a node has or must have.

    Raises:
        InvalidRequest: A name or value is malformed, or a name is there twice.
    """
    return check_labels(tuple(sorted((m.name, m.value) for m in messages)), what)


def labels_to(labels: Labels) -> list[v1.Label]:
    """Write what a node has or must have."""
    return [v1.Label(name=name, value=value) for name, value in labels]


# --- applications ------------------------------------------------------------------------------


def application_spec_of(message: v1.ApplicationSpec) -> ApplicationSpec:
    """Read how an application's service is started.

    Raises:
        InvalidRequest: A field has a value that can never work; the text names it.
    """
    shim = _shim_of(message)
    if shim is ShimKind.PYTHON:
        _check_python_service(message)
    if message.preload and not (shim is ShimKind.PYTHON and message.entry_point):
        raise InvalidRequest(
            "preload is set; it is for Python services with an entry_point, whose module is imported"
        )
    if message.preload and message.sandbox:
        raise InvalidRequest(
            "preload and sandbox are both set; an application may have one of them"
        )
    if message.HasField("max_instances") and message.max_instances == 0:
        raise InvalidRequest("max_instances is 0; leave it out for no limit, or allow at least 1")
    if message.HasField("delay_release") and message.delay_release < 0:
        raise InvalidRequest(
            f"delay_release is {message.delay_release}; it must be 0 seconds or more"
        )
    if message.working_directory and not message.working_directory.startswith("/"):
        raise InvalidRequest(
            f"working_directory {message.working_directory!r} must be an absolute path"
        )
    for environment in message.environments:
        if not environment.name or "=" in environment.name or "\0" in environment.name:
            raise InvalidRequest(
                f"environments: {environment.name!r} cannot name a variable; "
                "a name is not empty and has no '='"
            )
        if "\0" in environment.value:
            raise InvalidRequest(f"environments: the value of {environment.name} has a NUL in it")
    kept_package(message.url)
    names = [option.name for option in message.shim_options]
    for name in names:
        if not name or names.count(name) > 1:
            raise InvalidRequest(
                f"shim_options: {name!r} is there {names.count(name)} times; "
                "each option has a name, and is there once"
            )
    schema = message.schema
    return ApplicationSpec(
        shim=shim,
        description=message.description if message.HasField("description") else None,
        labels=tuple(message.labels),
        image=message.image if message.HasField("image") else None,
        command=message.command if message.HasField("command") else None,
        arguments=tuple(message.arguments),
        environments=tuple((e.name, e.value) for e in message.environments),
        working_directory=(
            message.working_directory if message.HasField("working_directory") else None
        ),
        max_instances=message.max_instances if message.HasField("max_instances") else None,
        delay_release=message.delay_release if message.HasField("delay_release") else None,
        schema_input=schema.input if schema.HasField("input") else None,
        schema_output=schema.output if schema.HasField("output") else None,
        schema_common_data=schema.common_data if schema.HasField("common_data") else None,
        has_schema=message.HasField("schema"),
        url=message.url if message.HasField("url") else None,
        installer=message.installer if message.HasField("installer") else None,
        entry_point=message.entry_point,
        reusable=message.reusable,
        pickled_service=message.pickled_service,
        shim_options=tuple((option.name, option.value) for option in message.shim_options),
        sandbox=_sandbox_of(message.sandbox),
        preload=message.preload,
        pickled_with=message.pickled_with,
        local_modules=message.local_modules,
        volumes=check_volumes(Volume(v.name, v.path, v.writable) for v in message.volumes),
        standby=message.standby if message.HasField("standby") else None,
    )


def _sandbox_of(text: str) -> Sandbox:
    try:
        return Sandbox(text)
    except ValueError:
        raise InvalidRequest(
            f"sandbox {text!r} is not known; allowed are 'strict' (no network), 'network', and none"
        ) from None


def application_spec_to(spec: ApplicationSpec) -> v1.ApplicationSpec:
    """Write how an application's service is started.

    Released clients know two kinds of shim: a Python service looks like a host program to them.
    """
    message = v1.ApplicationSpec(
        shim=v1.Shim.Wasm if spec.shim is ShimKind.WASM else v1.Shim.Host,
        description=spec.description,
        labels=spec.labels,
        image=spec.image,
        command=spec.command,
        arguments=spec.arguments,
        environments=[v1.Environment(name=n, value=v) for n, v in spec.environments],
        working_directory=spec.working_directory,
        max_instances=spec.max_instances,
        delay_release=spec.delay_release,
        url=spec.url,
        installer=spec.installer,
        shim_kind=cast(v1.ShimKind, int(spec.shim)),
        entry_point=spec.entry_point,
        reusable=spec.reusable,
        pickled_service=spec.pickled_service,
        shim_options=[v1.Environment(name=n, value=v) for n, v in spec.shim_options],
        sandbox=spec.sandbox.value,
        preload=spec.preload,
        pickled_with=spec.pickled_with,
        local_modules=spec.local_modules,
        volumes=[v1.Volume(name=n, path=p, writable=w) for n, p, w in spec.volumes],
        standby=spec.standby,
    )
    texts = (spec.schema_input, spec.schema_output, spec.schema_common_data)
    if spec.has_schema or texts != (None, None, None):
        message.schema.CopyFrom(
            v1.ApplicationSchema(input=texts[0], output=texts[1], common_data=texts[2])
        )
    return message


def _shim_of(message: v1.ApplicationSpec) -> ShimKind:
    # Enumerations are open on the wire: a number that nobody knows arrives as it is.
    if message.shim not in (v1.Shim.Host, v1.Shim.Wasm):
        raise InvalidRequest(f"shim is {int(message.shim)}; allowed are 0 (Host) and 1 (Wasm)")
    try:
        kind = ShimKind(message.shim_kind)
    except ValueError:
        allowed = ", ".join(f"{k.value} ({k.name.capitalize()})" for k in ShimKind)
        raise InvalidRequest(
            f"shim_kind is {int(message.shim_kind)}; allowed are {allowed}"
        ) from None
    if kind is not ShimKind.UNSPECIFIED:
        return kind
    return ShimKind.WASM if message.shim == v1.Shim.Wasm else ShimKind.HOST


def _check_python_service(message: v1.ApplicationSpec) -> None:
    if not message.entry_point and not message.pickled_service:
        raise InvalidRequest("a Python application needs an entry_point like 'package.module:name'")
    module, colon, attribute = message.entry_point.partition(":")
    dotted = module.split(".") + attribute.split(".")
    if message.entry_point and not (colon and all(part.isidentifier() for part in dotted)):
        raise InvalidRequest(
            f"entry_point {message.entry_point!r} is not of the form 'package.module:name'"
        )


# --- sessions ----------------------------------------------------------------------------------


def session_spec_of(message: v1.SessionSpec, default_resources: Resources = UNIT) -> SessionSpec:
    """Read what a session runs; ``default_resources`` stand in for an absent resreq.

    Raises:
        InvalidRequest: A field has a value that can never work; the text names it.
    """
    check_name(message.application, "application")
    least = message.min_instances
    most = message.max_instances if message.HasField("max_instances") else None
    batch = message.batch_size or 1
    if most == 0:
        raise InvalidRequest("max_instances is 0; leave it out for no limit, or allow at least 1")
    if most is not None and least > most:
        raise InvalidRequest(f"min_instances is {least}, more than max_instances, which is {most}")
    for field, count in (("min_instances", least), ("max_instances", most)):
        if count is not None and count % batch:
            raise InvalidRequest(
                f"{field} is {count}; it must be a multiple of batch_size, which is {batch}"
            )
    resources = default_resources
    if message.HasField("resreq"):
        resources = resources_of(message.resreq)
        if resources == Resources():
            raise InvalidRequest(
                "resreq asks for nothing; ask for some cpu, memory or gpu, or leave it out "
                f"for the cluster's default ({default_resources})"
            )
    try:
        durability = Durability(message.durability)
    except ValueError:
        allowed = ", ".join(f"{d.value} ({d.name.lower()})" for d in Durability)
        raise InvalidRequest(
            f"durability is {int(message.durability)}; allowed are {allowed}"
        ) from None
    return SessionSpec(
        application=message.application,
        common_data=message.common_data if message.HasField("common_data") else None,
        min_instances=least,
        max_instances=most,
        batch_size=batch,
        priority=message.priority,
        resources=resources,
        durability=durability,
        max_attempts=message.max_attempts or DEFAULT_MAX_ATTEMPTS,
        task_timeout_ms=_milliseconds("task_timeout_ms", message.task_timeout_ms),
        deadline_ms=_milliseconds("deadline_ms", message.deadline_ms),
        retry_on_failure=message.retry_on_failure,
        client_lost_ms=(
            _milliseconds("client_lost_ms", message.client_lost_ms)
            if message.HasField("client_lost_ms")
            else None
        ),
        require=labels_of(message.require, "require"),
        prefer=check_preferences(tuple((p.name, p.value, p.weight or 1) for p in message.prefer)),
        near=tuple(dict.fromkeys(check_name(node, "near: a node") for node in message.near)),
        retry_on=check_retry_on(message.retry_on, message.retry_on_failure),
        standby=message.standby if message.HasField("standby") else None,
    )


def session_spec_to(spec: SessionSpec) -> v1.SessionSpec:
    """Write what a session runs; resreq is always there."""
    return v1.SessionSpec(
        application=spec.application,
        common_data=spec.common_data,
        min_instances=spec.min_instances,
        max_instances=spec.max_instances,
        batch_size=spec.batch_size,
        priority=spec.priority,
        resreq=resources_to(spec.resources),
        durability=cast(v1.Durability, int(spec.durability)),
        max_attempts=spec.max_attempts,
        task_timeout_ms=spec.task_timeout_ms,
        deadline_ms=spec.deadline_ms,
        retry_on_failure=spec.retry_on_failure,
        client_lost_ms=spec.client_lost_ms,
        require=labels_to(spec.require),
        prefer=[v1.PreferredLabel(name=n, value=v, weight=w) for n, v, w in spec.prefer],
        near=spec.near,
        retry_on=spec.retry_on,
        standby=spec.standby,
    )


def _milliseconds(field: str, value: int) -> int:
    if value > _MAX_MILLISECONDS:
        raise InvalidRequest(
            f"{field} is {value}; at most {_MAX_MILLISECONDS} (a century) is allowed"
        )
    return value


# --- events ------------------------------------------------------------------------------------


def events_of(messages: Iterable[v1.Event]) -> tuple[Event, ...]:
    """Read what happened to a session or a task, oldest first."""
    return tuple(Event(m.code, m.message, m.creation_time, m.executor) for m in messages)


def event_to(event: Event) -> v1.Event:
    """Write one thing that happened."""
    return v1.Event(
        code=event.code,
        message=event.message,
        creation_time=event.created_ms,
        executor=event.executor,
    )


def failure_events(failure: Failure, finished_ms: int) -> tuple[Event, ...]:
    """Say why a task did not succeed.

    The first event is the reason. Released clients show the text of an event with code 3 only, so
    a task that failed for another reason has its text there once more.
    """
    state, code, message = failure
    reason = Event(code, message, finished_ms)
    if state is TaskState.FAILED and code != EventCode.FAILED:
        return (reason, Event(EventCode.FAILED, message, finished_ms))
    return (reason,)


# --- what is said of tasks ---------------------------------------------------------------------


def notes_to(notes: TaskNotes) -> frames.TaskNotes:
    """Write what a client says of a task."""
    return frames.TaskNotes(
        labels=[text for pair in notes.labels for text in pair],
        input_location=notes.input_location,
        output_location=notes.output_location,
    )
