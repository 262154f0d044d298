"""The service side of version 0.2.0: its message classes and its methods, under one roof."""

from flame.wire.pb.v0 import shim_pb2
from flame.wire.pb.v0.shim_pb2 import (
    ApplicationContext,
    EmptyRequest,
    RegisterServiceRequest,
    Result,
    SessionContext,
    Shim,
    TaskContext,
    TaskOutput,
)
from flame.wire.v1 import methods

#: The rpcs by name, for example ``GRPC_SHIM["OnTaskInvoke"].path``.
GRPC_SHIM = methods(shim_pb2.DESCRIPTOR.services_by_name["GrpcShim"])
GRPC_SERVICE_MANAGER = methods(shim_pb2.DESCRIPTOR.services_by_name["GrpcServiceManager"])

__all__ = [
    "GRPC_SERVICE_MANAGER",
    "GRPC_SHIM",
    "ApplicationContext",
    "EmptyRequest",
    "RegisterServiceRequest",
    "Result",
    "SessionContext",
    "Shim",
    "TaskContext",
    "TaskOutput",
]
