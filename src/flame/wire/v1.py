"""The public API, version 1: its message classes and its methods, under one roof.

Enumerations of these messages have the numbers of the model's (``flame.model.specs``), except that
the wire says ``Succeed`` where the model says ``SUCCEEDED``; ``codec`` turns one into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from flame.wire.pb.pool import message_class
from flame.wire.pb.v1 import backend_pb2, frontend_pb2, shim_pb2
from flame.wire.pb.v1.frontend_pb2 import (
    CloseSessionRequest,
    CreateSessionRequest,
    CreateTaskRequest,
    DeleteSessionRequest,
    GetApplicationRequest,
    GetNodeRequest,
    GetNodeResponse,
    GetSessionRequest,
    GetTaskRequest,
    ListApplicationRequest,
    ListExecutorRequest,
    ListNodesRequest,
    ListSessionRequest,
    ListTaskRequest,
    OpenSessionRequest,
    RegisterApplicationRequest,
    UnregisterApplicationRequest,
    UpdateApplicationRequest,
    WatchTaskRequest,
)
from flame.wire.pb.v1.shim_pb2 import (
    ApplicationContext,
    Peer,
    SessionContext,
    TaskContext,
)
from flame.wire.pb.v1.types_pb2 import (
    Application,
    ApplicationList,
    ApplicationSchema,
    ApplicationSpec,
    ApplicationState,
    ApplicationStatus,
    Durability,
    EmptyRequest,
    Environment,
    Event,
    Executor,
    ExecutorList,
    ExecutorSpec,
    ExecutorState,
    ExecutorStatus,
    Label,
    Metadata,
    NamedAmount,
    Node,
    NodeAddress,
    NodeInfo,
    NodeList,
    NodePackage,
    NodeSpec,
    NodeState,
    NodeStatus,
    PreferredLabel,
    ResourceRequirement,
    Result,
    Session,
    SessionList,
    SessionSpec,
    SessionState,
    SessionStatus,
    Shim,
    ShimKind,
    Task,
    TaskResult,
    TaskSpec,
    TaskState,
    TaskStatus,
    Volume,
)

#: Call metadata. A client that can take more than gRPC's default says how many bytes.
MAX_RECEIVE_KEY = "flame-max-receive"
#: What a client that does not say takes: gRPC's default, which released clients keep.
RELEASED_MAX_RECEIVE = 4 * 1024 * 1024
#: Call metadata: the tenant that an operator's credential acts for.
TENANT_KEY = "flame-tenant"
#: Trailing metadata: the class in ``flame.model.errors`` of an error. Status codes say less, since
#: released clients fix some of them.
ERROR_KEY = "flame-error"


@dataclass(frozen=True, slots=True)
class Method:
    """One rpc: its full name, its message classes, and which sides stream."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool

    def on(self, channel: grpc.aio.Channel) -> Any:
        """Return the rpc as a callable on an asyncio channel."""
        kind = "stream" if self.client_streams else "unary"
        answer = "stream" if self.server_streams else "unary"
        make = getattr(channel, f"{kind}_{answer}")
        return make(
            self.path,
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )


def methods(service: ServiceDescriptor) -> Mapping[str, Method]:
    """Return the rpcs of a described service by name."""
    return MappingProxyType(
        {
            method.name: Method(
                f"/{service.full_name}/{method.name}",
                message_class(method.input_type),
                message_class(method.output_type),
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.methods
        }
    )


#: The rpcs by name, for example ``FRONTEND["CreateSession"].path``.
FRONTEND = methods(frontend_pb2.DESCRIPTOR.services_by_name["Frontend"])
BACKEND = methods(backend_pb2.DESCRIPTOR.services_by_name["Backend"])
INSTANCE = methods(shim_pb2.DESCRIPTOR.services_by_name["Instance"])

__all__ = [
    "BACKEND",
    "FRONTEND",
    "INSTANCE",
    "Method",
    "ERROR_KEY",
    "MAX_RECEIVE_KEY",
    "TENANT_KEY",
    "RELEASED_MAX_RECEIVE",
    "Application",
    "ApplicationContext",
    "ApplicationList",
    "ApplicationSchema",
    "ApplicationSpec",
    "ApplicationState",
    "ApplicationStatus",
    "CloseSessionRequest",
    "CreateSessionRequest",
    "CreateTaskRequest",
    "DeleteSessionRequest",
    "Durability",
    "EmptyRequest",
    "Environment",
    "Event",
    "Executor",
    "ExecutorList",
    "ExecutorSpec",
    "ExecutorState",
    "ExecutorStatus",
    "GetApplicationRequest",
    "GetNodeRequest",
    "GetNodeResponse",
    "GetSessionRequest",
    "GetTaskRequest",
    "ListApplicationRequest",
    "ListExecutorRequest",
    "ListNodesRequest",
    "ListSessionRequest",
    "ListTaskRequest",
    "Label",
    "Metadata",
    "NamedAmount",
    "Node",
    "NodeAddress",
    "NodeInfo",
    "NodeList",
    "NodePackage",
    "NodeSpec",
    "NodeState",
    "NodeStatus",
    "OpenSessionRequest",
    "Peer",
    "PreferredLabel",
    "RegisterApplicationRequest",
    "ResourceRequirement",
    "Result",
    "Session",
    "SessionContext",
    "SessionList",
    "SessionSpec",
    "SessionState",
    "SessionStatus",
    "Shim",
    "ShimKind",
    "Task",
    "TaskContext",
    "TaskResult",
    "TaskSpec",
    "TaskState",
    "TaskStatus",
    "UnregisterApplicationRequest",
    "UpdateApplicationRequest",
    "WatchTaskRequest",
    "Volume",
]
