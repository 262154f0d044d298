from flame.wire.pb.channel import common_pb2 as _common_pb2
from flame.wire.pb.v1 import shim_pb2 as _shim_pb2
from flame.wire.pb.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecutorFrame(_message.Message):
    __slots__ = ("hello", "bind_result", "window", "started", "results", "taken_back", "left", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BIND_RESULT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: ExecutorHello
    bind_result: BindResult
    window: Window
    started: Started
    results: Results
    taken_back: TakenBack
    left: Left
    heartbeat: _common_pb2.Heartbeat
    def __init__(self, hello: _Optional[_Union[ExecutorHello, _Mapping]] = ..., bind_result: _Optional[_Union[BindResult, _Mapping]] = ..., window: _Optional[_Union[Window, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., results: _Optional[_Union[Results, _Mapping]] = ..., taken_back: _Optional[_Union[TakenBack, _Mapping]] = ..., left: _Optional[_Union[Left, _Mapping]] = ..., heartbeat: _Optional[_Union[_common_pb2.Heartbeat, _Mapping]] = ...) -> None: ...

class ExecutorOrder(_message.Message):
    __slots__ = ("welcome", "bind", "tasks", "results_stored", "take_back", "cancel", "unbind", "heartbeat", "refusal")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    BIND_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_STORED_FIELD_NUMBER: _ClassVar[int]
    TAKE_BACK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    UNBIND_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    bind: Bind
    tasks: Tasks
    results_stored: ResultsStored
    take_back: TakeBack
    cancel: CancelTasks
    unbind: Unbind
    heartbeat: _common_pb2.Heartbeat
    refusal: _common_pb2.Refusal
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., bind: _Optional[_Union[Bind, _Mapping]] = ..., tasks: _Optional[_Union[Tasks, _Mapping]] = ..., results_stored: _Optional[_Union[ResultsStored, _Mapping]] = ..., take_back: _Optional[_Union[TakeBack, _Mapping]] = ..., cancel: _Optional[_Union[CancelTasks, _Mapping]] = ..., unbind: _Optional[_Union[Unbind, _Mapping]] = ..., heartbeat: _Optional[_Union[_common_pb2.Heartbeat, _Mapping]] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ...) -> None: ...

class ExecutorHello(_message.Message):
    __slots__ = ("executor", "incarnation", "bound", "session", "window", "task_ids", "attempts", "running", "running_ms", "gpu_ids", "takes_early_tasks")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_MS_FIELD_NUMBER: _ClassVar[int]
    GPU_IDS_FIELD_NUMBER: _ClassVar[int]
    TAKES_EARLY_TASKS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    bound: bool
    session: int
    window: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    running: int
    running_ms: int
    gpu_ids: _containers.RepeatedScalarFieldContainer[str]
    takes_early_tasks: bool
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., bound: _Optional[bool] = ..., session: _Optional[int] = ..., window: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., running: _Optional[int] = ..., running_ms: _Optional[int] = ..., gpu_ids: _Optional[_Iterable[str]] = ..., takes_early_tasks: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "heartbeat_seconds", "framed", "counts_windows")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAMED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    heartbeat_seconds: int
    framed: _common_pb2.FramedAddress
    counts_windows: bool
    def __init__(self, epoch: _Optional[int] = ..., heartbeat_seconds: _Optional[int] = ..., framed: _Optional[_Union[_common_pb2.FramedAddress, _Mapping]] = ..., counts_windows: _Optional[bool] = ...) -> None: ...

class Bind(_message.Message):
    __slots__ = ("session", "session_id", "application_name", "application", "common_data", "incarnation", "tenant", "rank", "peers")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_NAME_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    COMMON_DATA_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    session: int
    session_id: str
    application_name: str
    application: _types_pb2.ApplicationSpec
    common_data: bytes
    incarnation: int
    tenant: str
    rank: int
    peers: _containers.RepeatedCompositeFieldContainer[_shim_pb2.Peer]
    def __init__(self, session: _Optional[int] = ..., session_id: _Optional[str] = ..., application_name: _Optional[str] = ..., application: _Optional[_Union[_types_pb2.ApplicationSpec, _Mapping]] = ..., common_data: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., tenant: _Optional[str] = ..., rank: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[_shim_pb2.Peer, _Mapping]]] = ...) -> None: ...

class BindResult(_message.Message):
    __slots__ = ("incarnation", "return_code", "message")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    return_code: int
    message: str
    def __init__(self, incarnation: _Optional[int] = ..., return_code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: int
    def __init__(self, tasks: _Optional[int] = ...) -> None: ...

class Tasks(_message.Message):
    __slots__ = ("task_ids", "inputs", "absent", "attempts", "noted", "notes", "results_stored")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NOTED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_STORED_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    absent: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    noted: _containers.RepeatedScalarFieldContainer[int]
    notes: _containers.RepeatedCompositeFieldContainer[_common_pb2.TaskNotes]
    results_stored: int
    def __init__(self, task_ids: _Optional[_Iterable[int]] = ..., inputs: _Optional[_Iterable[bytes]] = ..., absent: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., noted: _Optional[_Iterable[int]] = ..., notes: _Optional[_Iterable[_Union[_common_pb2.TaskNotes, _Mapping]]] = ..., results_stored: _Optional[int] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("task_id", "attempt")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    attempt: int
    def __init__(self, task_id: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("sequence", "task_ids", "outputs", "absent", "unsuccessful", "failures", "attempts", "logged", "logs", "window")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    UNSUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LOGGED_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[bytes]
    absent: _containers.RepeatedScalarFieldContainer[int]
    unsuccessful: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.RepeatedCompositeFieldContainer[_common_pb2.Failure]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    logged: _containers.RepeatedScalarFieldContainer[int]
    logs: _containers.RepeatedCompositeFieldContainer[TaskLog]
    window: int
    def __init__(self, sequence: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[bytes]] = ..., absent: _Optional[_Iterable[int]] = ..., unsuccessful: _Optional[_Iterable[int]] = ..., failures: _Optional[_Iterable[_Union[_common_pb2.Failure, _Mapping]]] = ..., attempts: _Optional[_Iterable[int]] = ..., logged: _Optional[_Iterable[int]] = ..., logs: _Optional[_Iterable[_Union[TaskLog, _Mapping]]] = ..., window: _Optional[int] = ...) -> None: ...

class TaskLog(_message.Message):
    __slots__ = ("stdout", "stderr")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    stdout: bytes
    stderr: bytes
    def __init__(self, stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ...) -> None: ...

class ResultsStored(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class TakeBack(_message.Message):
    __slots__ = ("request", "count", "task_ids")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    request: int
    count: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[int] = ..., count: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class TakenBack(_message.Message):
    __slots__ = ("request", "task_ids")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    request: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CancelTasks(_message.Message):
    __slots__ = ("task_ids",)
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, task_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Unbind(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Left(_message.Message):
    __slots__ = ("incarnation",)
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    def __init__(self, incarnation: _Optional[int] = ...) -> None: ...
