"""The model's values as messages of version 0.2.0, and back; see ``frontend_v0`` for what differs."""

from collections.abc import Mapping
from typing import cast

from flame.core.effects import ApplicationView, SessionView, TaskView
from flame.model.errors import InvalidRequest, ResourceExhausted
from flame.model.resources import slots_of
from flame.model.specs import ApplicationSpec, ShimKind, TaskState
from flame.session_manager import serving
from flame.session_manager.serving import Context
from flame.wire import codec, v0, v1

_SHIM_OF: Mapping[int, ShimKind] = {
    v0.Shim.Log: ShimKind.LOG,
    v0.Shim.Stdio: ShimKind.STDIO,
    v0.Shim.Wasm: ShimKind.WASM,
    v0.Shim.Shell: ShimKind.SHELL,
    v0.Shim.Grpc: ShimKind.GRPC,
}
_SHIM_TO: Mapping[ShimKind, int] = {shim: number for number, shim in _SHIM_OF.items()}


def application_spec_of(message: v0.ApplicationSpec) -> ApplicationSpec:
    """Read how an application's service is started.

    Raises:
        InvalidRequest: A field has a value that can never work.
    """
    shim = _SHIM_OF.get(message.shim)
    if shim is None:
        raise InvalidRequest(f"shim is {message.shim}; version 0.2.0 knows 0 to 4")
    environments = []
    for text in message.environments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidRequest(f"environment {text!r} is not NAME=value")
        environments.append((name, value))
    spec = ApplicationSpec(
        shim=shim,
        url=message.url if message.HasField("url") else None,
        command=message.command if message.HasField("command") else None,
        arguments=tuple(message.arguments),
        environments=tuple(environments),
        working_directory=message.working_directory or None,
        shim_options=(("frames", "none"),) if shim is ShimKind.STDIO else (),
    )
    return codec.application_spec_of(codec.application_spec_to(spec))  # which checks it


def application_message(view: ApplicationView) -> v0.Application:
    """Write an application."""
    spec = view.spec
    return v0.Application(
        metadata=v0.Metadata(id=view.name, name=view.name),
        spec=v0.ApplicationSpec(
            shim=cast(v0.Shim, _SHIM_TO.get(spec.shim, v0.Shim.Grpc)),
            url=spec.url,
            command=spec.command,
            arguments=spec.arguments,
            environments=[f"{name}={value}" for name, value in spec.environments],
            working_directory=spec.working_directory,
        ),
        status=v0.ApplicationStatus(
            state=v0.ApplicationState.Enabled, creation_time=view.created_ms // 1000
        ),
    )


def session_message(view: SessionView) -> v0.Session:
    """Write a session."""
    text = str(view.number)
    return v0.Session(
        metadata=v0.Metadata(id=text, name=text),
        spec=v0.SessionSpec(
            application=view.spec.application,
            slots=slots_of(view.spec.resources),
            common_data=view.spec.common_data,
        ),
        status=v0.SessionStatus(
            state=cast(v0.SessionState, int(view.state)),
            creation_time=view.created_ms // 1000,
            completion_time=None if view.closed_ms is None else view.closed_ms // 1000,
            pending=view.pending,
            running=view.running,
            succeed=view.succeeded,
            failed=view.failed + view.cancelled,
        ),
    )


def task_message(view: TaskView) -> v0.Task:
    """Write a task. There is no field for why it failed."""
    text = str(view.task_id)
    session = str(view.session)
    state = TaskState.FAILED if view.state is TaskState.CANCELLED else view.state
    return v0.Task(
        metadata=v0.Metadata(id=text, name=text, owner=session),
        spec=v0.TaskSpec(session_id=session, input=view.input, output=view.output),
        status=v0.TaskStatus(
            state=cast(v0.TaskState, int(state)),
            creation_time=view.created_ms // 1000,
            completion_time=None if view.finished_ms is None else view.finished_ms // 1000,
        ),
    )


def encode_task(view: TaskView, context: Context) -> bytes:
    """Return the message's bytes, without its input where the client could not receive it.

    Raises:
        ResourceExhausted: The output alone is more than the client receives.
    """
    message = task_message(view)
    if message.ByteSize() > v1.RELEASED_MAX_RECEIVE:
        limit = serving.receive_limit(context, 2**31)
        if message.ByteSize() > limit:
            message.spec.ClearField("input")
        if message.ByteSize() > limit:
            raise ResourceExhausted(
                f"task {view.task_id} of session {view.session} takes {message.ByteSize()} bytes; "
                f"this client receives at most {limit}"
            )
    return message.SerializeToString()
