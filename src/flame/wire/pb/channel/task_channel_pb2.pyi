from flame.wire.pb.channel import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientFrame(_message.Message):
    __slots__ = ("hello", "attach", "submit", "credit", "cancel", "detach", "heartbeat", "call")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    hello: ClientHello
    attach: Attach
    submit: Submit
    credit: OutcomeCredit
    cancel: Cancel
    detach: Detach
    heartbeat: _common_pb2.Heartbeat
    call: Call
    def __init__(self, hello: _Optional[_Union[ClientHello, _Mapping]] = ..., attach: _Optional[_Union[Attach, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ..., credit: _Optional[_Union[OutcomeCredit, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., detach: _Optional[_Union[Detach, _Mapping]] = ..., heartbeat: _Optional[_Union[_common_pb2.Heartbeat, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ...) -> None: ...

class ManagerFrame(_message.Message):
    __slots__ = ("hello", "attached", "accepted", "submit_refused", "submit_credit", "outcomes", "attach_refused", "session_closed", "cancel_done", "heartbeat", "refusal", "answer")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_REFUSED_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_CREDIT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    ATTACH_REFUSED_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOSED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_DONE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    hello: ManagerHello
    attached: Attached
    accepted: Accepted
    submit_refused: SubmitRefused
    submit_credit: SubmitCredit
    outcomes: Outcomes
    attach_refused: AttachRefused
    session_closed: SessionClosed
    cancel_done: CancelDone
    heartbeat: _common_pb2.Heartbeat
    refusal: _common_pb2.Refusal
    answer: Answer
    def __init__(self, hello: _Optional[_Union[ManagerHello, _Mapping]] = ..., attached: _Optional[_Union[Attached, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., submit_refused: _Optional[_Union[SubmitRefused, _Mapping]] = ..., submit_credit: _Optional[_Union[SubmitCredit, _Mapping]] = ..., outcomes: _Optional[_Union[Outcomes, _Mapping]] = ..., attach_refused: _Optional[_Union[AttachRefused, _Mapping]] = ..., session_closed: _Optional[_Union[SessionClosed, _Mapping]] = ..., cancel_done: _Optional[_Union[CancelDone, _Mapping]] = ..., heartbeat: _Optional[_Union[_common_pb2.Heartbeat, _Mapping]] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class ClientHello(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class ManagerHello(_message.Message):
    __slots__ = ("epoch", "heartbeat_seconds", "max_input_bytes", "framed", "calls")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FRAMED_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    heartbeat_seconds: int
    max_input_bytes: int
    framed: _common_pb2.FramedAddress
    calls: bool
    def __init__(self, epoch: _Optional[int] = ..., heartbeat_seconds: _Optional[int] = ..., max_input_bytes: _Optional[int] = ..., framed: _Optional[_Union[_common_pb2.FramedAddress, _Mapping]] = ..., calls: _Optional[bool] = ...) -> None: ...

class Attach(_message.Message):
    __slots__ = ("alias", "session", "submitter", "subscribe", "position", "outcome_credit", "own")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_CREDIT_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    alias: int
    session: str
    submitter: bytes
    subscribe: bool
    position: int
    outcome_credit: int
    own: bool
    def __init__(self, alias: _Optional[int] = ..., session: _Optional[str] = ..., submitter: _Optional[bytes] = ..., subscribe: _Optional[bool] = ..., position: _Optional[int] = ..., outcome_credit: _Optional[int] = ..., own: _Optional[bool] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("alias", "number", "submitted", "submit_credit", "closed", "log_end")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_CREDIT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    LOG_END_FIELD_NUMBER: _ClassVar[int]
    alias: int
    number: int
    submitted: int
    submit_credit: int
    closed: bool
    log_end: int
    def __init__(self, alias: _Optional[int] = ..., number: _Optional[int] = ..., submitted: _Optional[int] = ..., submit_credit: _Optional[int] = ..., closed: _Optional[bool] = ..., log_end: _Optional[int] = ...) -> None: ...

class AttachRefused(_message.Message):
    __slots__ = ("alias", "refusal")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    alias: int
    refusal: _common_pb2.Refusal
    def __init__(self, alias: _Optional[int] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ("alias", "first_number", "inputs", "absent", "limited", "timeout_ms", "deadline_ms", "noted", "notes")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    LIMITED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    NOTED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    alias: int
    first_number: int
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    absent: _containers.RepeatedScalarFieldContainer[int]
    limited: _containers.RepeatedScalarFieldContainer[int]
    timeout_ms: _containers.RepeatedScalarFieldContainer[int]
    deadline_ms: _containers.RepeatedScalarFieldContainer[int]
    noted: _containers.RepeatedScalarFieldContainer[int]
    notes: _containers.RepeatedCompositeFieldContainer[_common_pb2.TaskNotes]
    def __init__(self, alias: _Optional[int] = ..., first_number: _Optional[int] = ..., inputs: _Optional[_Iterable[bytes]] = ..., absent: _Optional[_Iterable[int]] = ..., limited: _Optional[_Iterable[int]] = ..., timeout_ms: _Optional[_Iterable[int]] = ..., deadline_ms: _Optional[_Iterable[int]] = ..., noted: _Optional[_Iterable[int]] = ..., notes: _Optional[_Iterable[_Union[_common_pb2.TaskNotes, _Mapping]]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("alias", "first_number", "count", "first_task_id", "credit")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    alias: int
    first_number: int
    count: int
    first_task_id: int
    credit: int
    def __init__(self, alias: _Optional[int] = ..., first_number: _Optional[int] = ..., count: _Optional[int] = ..., first_task_id: _Optional[int] = ..., credit: _Optional[int] = ...) -> None: ...

class SubmitRefused(_message.Message):
    __slots__ = ("alias", "first_number", "count", "refusal")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    alias: int
    first_number: int
    count: int
    refusal: _common_pb2.Refusal
    def __init__(self, alias: _Optional[int] = ..., first_number: _Optional[int] = ..., count: _Optional[int] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ...) -> None: ...

class SubmitCredit(_message.Message):
    __slots__ = ("alias", "bytes")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    alias: int
    bytes: int
    def __init__(self, alias: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Outcomes(_message.Message):
    __slots__ = ("alias", "position", "task_ids", "outputs", "absent", "unsuccessful", "failures", "accepted")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    UNSUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    alias: int
    position: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[bytes]
    absent: _containers.RepeatedScalarFieldContainer[int]
    unsuccessful: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.RepeatedCompositeFieldContainer[_common_pb2.Failure]
    accepted: _containers.RepeatedCompositeFieldContainer[Accepted]
    def __init__(self, alias: _Optional[int] = ..., position: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[bytes]] = ..., absent: _Optional[_Iterable[int]] = ..., unsuccessful: _Optional[_Iterable[int]] = ..., failures: _Optional[_Iterable[_Union[_common_pb2.Failure, _Mapping]]] = ..., accepted: _Optional[_Iterable[_Union[Accepted, _Mapping]]] = ...) -> None: ...

class OutcomeCredit(_message.Message):
    __slots__ = ("alias", "position", "bytes")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    alias: int
    position: int
    bytes: int
    def __init__(self, alias: _Optional[int] = ..., position: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("alias", "request", "task_ids")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    alias: int
    request: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, alias: _Optional[int] = ..., request: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CancelDone(_message.Message):
    __slots__ = ("alias", "request")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    alias: int
    request: int
    def __init__(self, alias: _Optional[int] = ..., request: _Optional[int] = ...) -> None: ...

class Detach(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: int
    def __init__(self, alias: _Optional[int] = ...) -> None: ...

class SessionClosed(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: int
    def __init__(self, alias: _Optional[int] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("number", "method", "request")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    number: int
    method: str
    request: bytes
    def __init__(self, number: _Optional[int] = ..., method: _Optional[str] = ..., request: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("number", "response", "refusal", "elsewhere")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    number: int
    response: bytes
    refusal: _common_pb2.Refusal
    elsewhere: bool
    def __init__(self, number: _Optional[int] = ..., response: _Optional[bytes] = ..., refusal: _Optional[_Union[_common_pb2.Refusal, _Mapping]] = ..., elsewhere: _Optional[bool] = ...) -> None: ...
