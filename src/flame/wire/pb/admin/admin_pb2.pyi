from flame.wire.pb.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TenantSpec(_message.Message):
    __slots__ = ("name", "weight", "quota", "limit", "lends", "borrows", "max_sessions", "max_queued_tasks", "max_queued_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    LENDS_FIELD_NUMBER: _ClassVar[int]
    BORROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_TASKS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    quota: _types_pb2.ResourceRequirement
    limit: _types_pb2.ResourceRequirement
    lends: bool
    borrows: bool
    max_sessions: int
    max_queued_tasks: int
    max_queued_bytes: int
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., quota: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., limit: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., lends: _Optional[bool] = ..., borrows: _Optional[bool] = ..., max_sessions: _Optional[int] = ..., max_queued_tasks: _Optional[int] = ..., max_queued_bytes: _Optional[int] = ...) -> None: ...

class TenantStatus(_message.Message):
    __slots__ = ("declared", "creation_time", "got", "deserved", "usage", "usage_deserved", "open_sessions", "executors", "queued_tasks", "queued_bytes")
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    DESERVED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_DESERVED_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_TASKS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    declared: bool
    creation_time: int
    got: float
    deserved: float
    usage: float
    usage_deserved: float
    open_sessions: int
    executors: int
    queued_tasks: int
    queued_bytes: int
    def __init__(self, declared: _Optional[bool] = ..., creation_time: _Optional[int] = ..., got: _Optional[float] = ..., deserved: _Optional[float] = ..., usage: _Optional[float] = ..., usage_deserved: _Optional[float] = ..., open_sessions: _Optional[int] = ..., executors: _Optional[int] = ..., queued_tasks: _Optional[int] = ..., queued_bytes: _Optional[int] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("spec", "status")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    spec: TenantSpec
    status: TenantStatus
    def __init__(self, spec: _Optional[_Union[TenantSpec, _Mapping]] = ..., status: _Optional[_Union[TenantStatus, _Mapping]] = ...) -> None: ...

class ListTenantsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TenantList(_message.Message):
    __slots__ = ("tenants",)
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ...) -> None: ...

class GetTenantRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class PutTenantRequest(_message.Message):
    __slots__ = ("spec", "precondition")
    class Precondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ANY: _ClassVar[PutTenantRequest.Precondition]
        NEW: _ClassVar[PutTenantRequest.Precondition]
        KNOWN: _ClassVar[PutTenantRequest.Precondition]
    ANY: PutTenantRequest.Precondition
    NEW: PutTenantRequest.Precondition
    KNOWN: PutTenantRequest.Precondition
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PRECONDITION_FIELD_NUMBER: _ClassVar[int]
    spec: TenantSpec
    precondition: PutTenantRequest.Precondition
    def __init__(self, spec: _Optional[_Union[TenantSpec, _Mapping]] = ..., precondition: _Optional[_Union[PutTenantRequest.Precondition, str]] = ...) -> None: ...

class DeleteTenantRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteTenantResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "role", "tenants", "note", "creation_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    role: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    note: str
    creation_time: int
    def __init__(self, id: _Optional[str] = ..., role: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., note: _Optional[str] = ..., creation_time: _Optional[int] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("role", "tenants", "note")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    role: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    note: str
    def __init__(self, role: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., note: _Optional[str] = ...) -> None: ...

class CreatedToken(_message.Message):
    __slots__ = ("token", "secret")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    token: Token
    secret: str
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ..., secret: _Optional[str] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TokenList(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RevokeTokenResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CordonNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CordonNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: _types_pb2.Node
    def __init__(self, node: _Optional[_Union[_types_pb2.Node, _Mapping]] = ...) -> None: ...

class UncordonNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UncordonNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: _types_pb2.Node
    def __init__(self, node: _Optional[_Union[_types_pb2.Node, _Mapping]] = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("name", "timeout_seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    timeout_seconds: float
    def __init__(self, name: _Optional[str] = ..., timeout_seconds: _Optional[float] = ...) -> None: ...

class DrainProgress(_message.Message):
    __slots__ = ("executors", "running", "held", "timed_out", "sessions")
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    executors: int
    running: int
    held: int
    timed_out: bool
    sessions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, executors: _Optional[int] = ..., running: _Optional[int] = ..., held: _Optional[int] = ..., timed_out: _Optional[bool] = ..., sessions: _Optional[_Iterable[str]] = ...) -> None: ...

class ListTaskLogsRequest(_message.Message):
    __slots__ = ("session_id", "after", "limit")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    after: int
    limit: int
    def __init__(self, session_id: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadTaskOutputRequest(_message.Message):
    __slots__ = ("session_id", "task_id", "stdout_from", "stderr_from")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FROM_FIELD_NUMBER: _ClassVar[int]
    STDERR_FROM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    task_id: int
    stdout_from: int
    stderr_from: int
    def __init__(self, session_id: _Optional[str] = ..., task_id: _Optional[int] = ..., stdout_from: _Optional[int] = ..., stderr_from: _Optional[int] = ...) -> None: ...

class ReadExecutorOutputRequest(_message.Message):
    __slots__ = ("executor", "incarnation", "stdout_from", "stderr_from", "rotated")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FROM_FIELD_NUMBER: _ClassVar[int]
    STDERR_FROM_FIELD_NUMBER: _ClassVar[int]
    ROTATED_FIELD_NUMBER: _ClassVar[int]
    executor: str
    incarnation: int
    stdout_from: int
    stderr_from: int
    rotated: bool
    def __init__(self, executor: _Optional[str] = ..., incarnation: _Optional[int] = ..., stdout_from: _Optional[int] = ..., stderr_from: _Optional[int] = ..., rotated: _Optional[bool] = ...) -> None: ...

class OutputPiece(_message.Message):
    __slots__ = ("stdout", "stderr", "stdout_end", "stderr_end", "over", "attempt", "incarnation")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    STDOUT_END_FIELD_NUMBER: _ClassVar[int]
    STDERR_END_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    stdout: bytes
    stderr: bytes
    stdout_end: int
    stderr_end: int
    over: bool
    attempt: int
    incarnation: int
    def __init__(self, stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., stdout_end: _Optional[int] = ..., stderr_end: _Optional[int] = ..., over: _Optional[bool] = ..., attempt: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class TaskLogList(_message.Message):
    __slots__ = ("logs", "dropped")
    LOGS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    logs: _containers.RepeatedCompositeFieldContainer[TaskLog]
    dropped: bool
    def __init__(self, logs: _Optional[_Iterable[_Union[TaskLog, _Mapping]]] = ..., dropped: _Optional[bool] = ...) -> None: ...

class TaskLog(_message.Message):
    __slots__ = ("task_id", "attempt", "stdout", "stderr")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    attempt: int
    stdout: bytes
    stderr: bytes
    def __init__(self, task_id: _Optional[int] = ..., attempt: _Optional[int] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ...) -> None: ...
