from flame.wire.pb.channel import common_pb2 as _common_pb2
from flame.wire.pb.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeFrame(_message.Message):
    __slots__ = ("register", "renew", "exited", "leaving", "package", "start_delayed", "output")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    START_DELAYED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    register: Register
    renew: Renew
    exited: ExecutorExited
    leaving: Leaving
    package: PackageState
    start_delayed: StartDelayed
    output: Output
    def __init__(self, register: _Optional[_Union[Register, _Mapping]] = ..., renew: _Optional[_Union[Renew, _Mapping]] = ..., exited: _Optional[_Union[ExecutorExited, _Mapping]] = ..., leaving: _Optional[_Union[Leaving, _Mapping]] = ..., package: _Optional[_Union[PackageState, _Mapping]] = ..., start_delayed: _Optional[_Union[StartDelayed, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ...) -> None: ...

class NodeOrder(_message.Message):
    __slots__ = ("registered", "start", "stop", "renewed", "refusal", "retry_package", "read_output")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RETRY_PACKAGE_FIELD_NUMBER: _ClassVar[int]
    READ_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    registered: Registered
    start: StartExecutor
    stop: StopExecutor
    renewed: Renewed
    refusal: _common_pb2.Refusal
    retry_package: RetryPackage
    read_output: ReadOutput
    def __init__(self, registered: _Optional[_Union[Registered, _Mapping]] = ..., start: _Optional[_Union[StartExecutor, _Mapping]] = ..., stop: _Optional[_Union[StopExecutor, _Mapping]] = ..., renewed: _Optional[_Union[Renewed, _Mapping]] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ..., retry_package: _Optional[_Union[RetryPackage, _Mapping]] = ..., read_output: _Optional[_Union[ReadOutput, _Mapping]] = ...) -> None: ...

class RunningExecutor(_message.Message):
    __slots__ = ("executor", "incarnation")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Register(_message.Message):
    __slots__ = ("name", "instance", "capacity", "info", "hostname", "executors", "addresses", "labels", "isolation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    instance: bytes
    capacity: _types_pb2.ResourceRequirement
    info: _types_pb2.NodeInfo
    hostname: str
    executors: _containers.RepeatedCompositeFieldContainer[RunningExecutor]
    addresses: _containers.RepeatedCompositeFieldContainer[_types_pb2.NodeAddress]
    labels: _containers.RepeatedCompositeFieldContainer[_types_pb2.Label]
    isolation: str
    def __init__(self, name: _Optional[str] = ..., instance: _Optional[bytes] = ..., capacity: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., info: _Optional[_Union[_types_pb2.NodeInfo, _Mapping]] = ..., hostname: _Optional[str] = ..., executors: _Optional[_Iterable[_Union[RunningExecutor, _Mapping]]] = ..., addresses: _Optional[_Iterable[_Union[_types_pb2.NodeAddress, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[_types_pb2.Label, _Mapping]]] = ..., isolation: _Optional[str] = ...) -> None: ...

class Registered(_message.Message):
    __slots__ = ("epoch", "heartbeat_seconds", "lease_seconds", "framed")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAMED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    heartbeat_seconds: int
    lease_seconds: int
    framed: _common_pb2.FramedAddress
    def __init__(self, epoch: _Optional[int] = ..., heartbeat_seconds: _Optional[int] = ..., lease_seconds: _Optional[int] = ..., framed: _Optional[_Union[_common_pb2.FramedAddress, _Mapping]] = ...) -> None: ...

class Renew(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Renewed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartExecutor(_message.Message):
    __slots__ = ("executor", "incarnation", "application_name", "application", "resources", "credential", "tenant")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_NAME_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    application_name: str
    application: _types_pb2.ApplicationSpec
    resources: _types_pb2.ResourceRequirement
    credential: str
    tenant: str
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., application_name: _Optional[str] = ..., application: _Optional[_Union[_types_pb2.ApplicationSpec, _Mapping]] = ..., resources: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., credential: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class StopExecutor(_message.Message):
    __slots__ = ("executor", "incarnation", "grace_ms")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    grace_ms: int
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class ExecutorExited(_message.Message):
    __slots__ = ("executor", "incarnation", "task_id", "attempt", "cause", "exit_code", "signal", "detail", "pid", "stdout", "stderr")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    task_id: int
    attempt: int
    cause: str
    exit_code: int
    signal: int
    detail: str
    pid: int
    stdout: bytes
    stderr: bytes
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., task_id: _Optional[int] = ..., attempt: _Optional[int] = ..., cause: _Optional[str] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., detail: _Optional[str] = ..., pid: _Optional[int] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ...) -> None: ...

class PackageState(_message.Message):
    __slots__ = ("tenant", "application", "url", "state", "message", "log", "since_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    application: str
    url: str
    state: str
    message: str
    log: str
    since_ms: int
    def __init__(self, tenant: _Optional[str] = ..., application: _Optional[str] = ..., url: _Optional[str] = ..., state: _Optional[str] = ..., message: _Optional[str] = ..., log: _Optional[str] = ..., since_ms: _Optional[int] = ...) -> None: ...

class StartDelayed(_message.Message):
    __slots__ = ("executor", "incarnation", "seconds")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    seconds: int
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., seconds: _Optional[int] = ...) -> None: ...

class RetryPackage(_message.Message):
    __slots__ = ("tenant", "application", "shared")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    application: str
    shared: bool
    def __init__(self, tenant: _Optional[str] = ..., application: _Optional[str] = ..., shared: _Optional[bool] = ...) -> None: ...

class ReadOutput(_message.Message):
    __slots__ = ("request", "executor", "incarnation", "task_id", "attempt", "stdout_from", "stderr_from", "rotated")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FROM_FIELD_NUMBER: _ClassVar[int]
    STDERR_FROM_FIELD_NUMBER: _ClassVar[int]
    ROTATED_FIELD_NUMBER: _ClassVar[int]
    request: int
    executor: str
    incarnation: int
    task_id: int
    attempt: int
    stdout_from: int
    stderr_from: int
    rotated: bool
    def __init__(self, request: _Optional[int] = ..., executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., task_id: _Optional[int] = ..., attempt: _Optional[int] = ..., stdout_from: _Optional[int] = ..., stderr_from: _Optional[int] = ..., rotated: _Optional[bool] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("request", "found", "incarnation", "stdout", "stderr", "stdout_end", "stderr_end", "running")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    STDOUT_END_FIELD_NUMBER: _ClassVar[int]
    STDERR_END_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    request: int
    found: bool
    incarnation: int
    stdout: bytes
    stderr: bytes
    stdout_end: int
    stderr_end: int
    running: bool
    def __init__(self, request: _Optional[int] = ..., found: _Optional[bool] = ..., incarnation: _Optional[int] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., stdout_end: _Optional[int] = ..., stderr_end: _Optional[int] = ..., running: _Optional[bool] = ...) -> None: ...

class Leaving(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
