"""A client of version 0.2.0, from the field numbers of its release and nothing of ours."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

#: message: fields, each name=number:type; ? is optional, * repeated.
MESSAGES = """
Metadata: id=1:string name=2:string owner=3:string?
SessionSpec: application=2:string slots=3:int32 common_data=4:bytes?
SessionStatus: state=1:int32 creation_time=2:int64 completion_time=3:int64? pending=4:int32 running=5:int32 succeed=6:int32 failed=7:int32
Session: metadata=1:Metadata spec=2:SessionSpec status=3:SessionStatus
TaskSpec: session_id=2:string input=3:bytes? output=4:bytes?
TaskStatus: state=1:int32 creation_time=2:int64 completion_time=3:int64?
Task: metadata=1:Metadata spec=2:TaskSpec status=3:TaskStatus
ApplicationSpec: shim=1:int32 url=2:string? command=3:string? arguments=4:string* environments=5:string* working_directory=6:string?
ApplicationStatus: state=1:int32 creation_time=2:int64
Application: metadata=1:Metadata spec=2:ApplicationSpec status=3:ApplicationStatus
SessionList: sessions=1:Session*
ApplicationList: applications=1:Application*
Result: return_code=1:int32 message=2:string?
Register: name=1:string application=2:ApplicationSpec
Name: name=1:string
Nothing:
NewSession: session=1:SessionSpec
SessionId: session_id=1:string
NewTask: task=1:TaskSpec
TaskId: task_id=1:string session_id=2:string
"""

RPCS = {
    "RegisterApplication": ("Register", "Result"),
    "UnregisterApplication": ("Name", "Result"),
    "UpdateApplication": ("Register", "Result"),
    "GetApplication": ("Name", "Application"),
    "ListApplication": ("Nothing", "ApplicationList"),
    "CreateSession": ("NewSession", "Session"),
    "DeleteSession": ("SessionId", "Session"),
    "OpenSession": ("SessionId", "Session"),
    "CloseSession": ("SessionId", "Session"),
    "GetSession": ("SessionId", "Session"),
    "ListSession": ("Nothing", "SessionList"),
    "CreateTask": ("NewTask", "Task"),
    "DeleteTask": ("TaskId", "Task"),
    "GetTask": ("TaskId", "Task"),
    "WatchTask": ("TaskId", "Task"),
}

PENDING, RUNNING, SUCCEED, FAILED = range(4)
OPEN, CLOSED = range(2)
LOG, STDIO, WASM, SHELL, GRPC = range(5)


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="released.proto", package="released", syntax="proto3")
    for line in MESSAGES.split("\n")[1:-1]:
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for text in fields.split():
            field_name, _, rest = text.partition("=")
            number, _, kind = rest.partition(":")
            field = message.field.add(name=field_name, number=int(number))
            plain = kind.rstrip("?*")
            field.label = (
                FieldDescriptorProto.LABEL_REPEATED
                if kind.endswith("*")
                else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if plain.islower():
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{plain.upper()}")
            else:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".released.{plain}"
            if kind.endswith("?"):
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field_name}")
    pool = DescriptorPool()
    pool.Add(file)
    return {
        message.name: GetMessageClass(pool.FindMessageTypeByName(f"released.{message.name}"))
        for message in file.message_type
    }


CLASSES = _classes()


class Client:
    """Calls rpcs by their names: ``client.GetSession(session_id="7")``."""

    def __init__(self, endpoint: str, token: str | None = None) -> None:
        self._channel = grpc.insecure_channel(endpoint.removeprefix("http://"))
        self._metadata: tuple[tuple[str, str | bytes], ...] = (
            () if token is None else (("authorization", f"Bearer {token}"),)
        )

    def __getattr__(self, rpc: str) -> Any:
        request, answer = (CLASSES[name] for name in RPCS[rpc])
        call = self._channel.unary_unary(
            f"/flame.Frontend/{rpc}", request.SerializeToString, answer.FromString
        )
        return lambda **fields: call(request(**fields), metadata=self._metadata, timeout=30)

    def watch(self, session_id: str, task_id: str) -> Iterator[Any]:
        """Follow a task to its end."""
        request, answer = CLASSES["TaskId"], CLASSES["Task"]
        call = self._channel.unary_stream(
            "/flame.Frontend/WatchTask", request.SerializeToString, answer.FromString
        )
        yield from call(
            request(task_id=task_id, session_id=session_id), metadata=self._metadata, timeout=30
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()
