"""Our descriptors against those of the released SDK, field by field.

Ours may have more: fields numbered above 1000, and enumerations and services of our own.
"""

import base64
import json
import subprocess
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

from flame.wire import reflection, v1
from tests.compatibility.released import released_python

_PRINT_DESCRIPTORS = """
import base64, json
from flamepy.proto import types_pb2, frontend_pb2, shim_pb2
print(json.dumps([
    base64.b64encode(module.DESCRIPTOR.serialized_pb).decode()
    for module in (types_pb2, frontend_pb2, shim_pb2)
]))
"""

OURS_FROM = 1001  # field numbers from here on are our additions


class Described:
    """The messages, enumerations and services of package flame.v1."""

    def __init__(self, files: list[FileDescriptorProto]) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self.services: dict[str, ServiceDescriptorProto] = {}
        for file in files:
            assert file.package == "flame.v1"
            assert file.syntax == "proto3"
            self.messages |= {m.name: m for m in file.message_type}
            self.enums |= {e.name: e for e in file.enum_type}
            self.services |= {s.name: s for s in file.service}
        assert not any(m.nested_type or m.enum_type for m in self.messages.values())


@pytest.fixture(scope="module")
def released() -> Described:
    done = subprocess.run(
        [released_python(), "-c", _PRINT_DESCRIPTORS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    files = [FileDescriptorProto.FromString(base64.b64decode(t)) for t in json.loads(done.stdout)]
    return Described(files)


@pytest.fixture(scope="module")
def ours() -> Described:
    pool = reflection.served_pool()
    names = [f"flame/v1/{name}.proto" for name in ("types", "frontend", "backend")]
    files = [pool.FindFileByName(name).serialized_pb for name in names]
    files.append(v1.SessionContext.DESCRIPTOR.file.serialized_pb)  # shim.proto: not served
    return Described([FileDescriptorProto.FromString(data) for data in files])


def facts(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    """What of a field is seen on the wire or by a program that uses it."""
    oneof = ""
    if field.HasField("oneof_index") and not field.proto3_optional:
        oneof = message.oneof_decl[field.oneof_index].name
    return (
        field.name,
        field.number,
        field.Type.Name(field.type),
        field.Label.Name(field.label),
        field.type_name,
        field.proto3_optional,
        oneof,
    )


def released_fields(message: DescriptorProto) -> Iterator[tuple[object, ...]]:
    return (facts(message, field) for field in message.field if field.number < OURS_FROM)


def test_every_released_message_has_the_same_fields(released: Described, ours: Described) -> None:
    assert len(released.messages) > 40
    for name, message in released.messages.items():
        assert name in ours.messages
        assert sorted(released_fields(ours.messages[name])) == sorted(released_fields(message)), (
            name
        )
        assert all(field.number < OURS_FROM for field in message.field), name


def test_every_released_enumeration_has_the_same_values(
    released: Described, ours: Described
) -> None:
    for name, enum in released.enums.items():
        mine = {value.name: value.number for value in ours.enums[name].value}
        assert mine == {value.name: value.number for value in enum.value}, name


def test_every_released_service_has_the_same_rpcs(released: Described, ours: Described) -> None:
    assert set(released.services) == {"Frontend", "Instance"}
    for name, service in released.services.items():
        assert list(rpcs(ours.services[name])) == list(rpcs(service)), name


def rpcs(service: ServiceDescriptorProto) -> list[tuple[str, str, str, bool, bool]]:
    return sorted(
        (m.name, m.input_type, m.output_type, m.client_streaming, m.server_streaming)
        for m in service.method
    )


#: The Backend is not in the released SDK: from the table of the wire contract.
BACKEND = {
    "RegisterNode": ("RegisterNodeRequest", "Result"),
    "SyncNode": ("SyncNodeRequest", "SyncNodeResponse"),
    "ReleaseNode": ("ReleaseNodeRequest", "Result"),
    "WatchNode": ("WatchNodeRequest", "WatchNodeResponse"),
    "RegisterExecutor": ("RegisterExecutorRequest", "Result"),
    "UnregisterExecutor": ("UnregisterExecutorRequest", "Result"),
    "BindExecutor": ("BindExecutorRequest", "BindExecutorResponse"),
    "BindExecutorCompleted": ("BindExecutorCompletedRequest", "Result"),
    "UnbindExecutor": ("UnbindExecutorRequest", "Result"),
    "UnbindExecutorCompleted": ("UnbindExecutorCompletedRequest", "Result"),
    "LaunchTask": ("LaunchTaskRequest", "LaunchTaskResponse"),
    "CompleteTask": ("CompleteTaskRequest", "Result"),
}

BACKEND_FIELDS = {
    "RegisterNodeRequest": {"node": 1, "executors": 2},
    "SyncNodeRequest": {"node": 1, "executors": 2},
    "SyncNodeResponse": {"node": 1, "executors": 2},
    "ReleaseNodeRequest": {"node_name": 1},
    "WatchNodeRequest": {"heartbeat": 1},
    "WatchNodeResponse": {"executor": 1, "ack": 2},
    "RegisterExecutorRequest": {"executor_id": 1, "executor_spec": 2},
    "UnregisterExecutorRequest": {"executor_id": 1},
    "BindExecutorRequest": {"executor_id": 1},
    "BindExecutorResponse": {"application": 1, "session": 2},
    "BindExecutorCompletedRequest": {"executor_id": 1, "result": 2},
    "UnbindExecutorRequest": {"executor_id": 1},
    "UnbindExecutorCompletedRequest": {"executor_id": 1},
    "LaunchTaskRequest": {"executor_id": 1},
    "LaunchTaskResponse": {"task": 1},
    "CompleteTaskRequest": {"executor_id": 1, "task_result": 2},
}


def test_the_backend_is_described_as_the_contract_says(ours: Described) -> None:
    found = {
        name: (source.rpartition(".")[2], target.rpartition(".")[2])
        for name, source, target, *_ in rpcs(ours.services["Backend"])
    }
    assert found == BACKEND
    streams = [r for r in rpcs(ours.services["Backend"]) if r[3] or r[4]]
    assert [(r[0], r[3], r[4]) for r in streams] == [("WatchNode", True, True)]
    for name, fields in BACKEND_FIELDS.items():
        assert {f.name: f.number for f in ours.messages[name].field} == fields
