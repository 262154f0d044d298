from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "closing")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    closing: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., closing: _Optional[bool] = ...) -> None: ...

class FramedAddress(_message.Message):
    __slots__ = ("port", "local")
    PORT_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    port: int
    local: str
    def __init__(self, port: _Optional[int] = ..., local: _Optional[str] = ...) -> None: ...

class FramedHello(_message.Message):
    __slots__ = ("channel", "credential", "tenant")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    credential: str
    tenant: str
    def __init__(self, channel: _Optional[str] = ..., credential: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class TaskNotes(_message.Message):
    __slots__ = ("labels", "input_location", "output_location")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_LOCATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LOCATION_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    input_location: str
    output_location: str
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., input_location: _Optional[str] = ..., output_location: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("state", "code", "message", "kinds")
    STATE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    state: int
    code: int
    message: str
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...
