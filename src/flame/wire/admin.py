"""What operators call, ``flame.admin.v1``: its messages, its methods, and our values as messages."""

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.tenants import TenantSpec
from flame.wire.codec import resources_of, resources_to
from flame.wire.pb.admin import admin_pb2
from flame.wire.pb.admin.admin_pb2 import (
    CordonNodeRequest,
    CordonNodeResponse,
    CreatedToken,
    CreateTokenRequest,
    DeleteTenantRequest,
    DeleteTenantResponse,
    DrainNodeRequest,
    DrainProgress,
    GetTenantRequest,
    ListTaskLogsRequest,
    ListTenantsRequest,
    ListTokensRequest,
    OutputPiece,
    PutTenantRequest,
    ReadExecutorOutputRequest,
    ReadTaskOutputRequest,
    RevokeTokenRequest,
    RevokeTokenResponse,
    TaskLogList,
    TenantList,
    TenantStatus,
    Token,
    TokenList,
    UncordonNodeRequest,
    UncordonNodeResponse,
)
from flame.wire.pb.admin.admin_pb2 import TaskLog as TaskLogMessage
from flame.wire.pb.admin.admin_pb2 import Tenant as TenantMessage
from flame.wire.pb.admin.admin_pb2 import TenantSpec as TenantSpecMessage
from flame.wire.v1 import methods

#: The rpcs by name, for example ``ADMIN["PutTenant"].path``.
ADMIN = methods(admin_pb2.DESCRIPTOR.services_by_name["Admin"])

#: Amounts fit in 63 bits, as stores keep them.
_MOST = 2**63 - 1


def tenant_spec_of(message: TenantSpecMessage) -> TenantSpec:
    """Read what a tenant is entitled to; whether it makes sense is for the model to say.

    Raises:
        InvalidRequest: An amount is larger than can be kept.
    """
    what = f"tenant {message.name!r}"
    for field in ("max_sessions", "max_queued_tasks", "max_queued_bytes"):
        if getattr(message, field) > _MOST:
            raise InvalidRequest(f"{what}: {field} is above 2^63 - 1")
    return TenantSpec(
        Tenant(message.name),
        message.weight if message.HasField("weight") else 1.0,
        resources_of(message.quota, f"{what}: quota") if message.HasField("quota") else None,
        resources_of(message.limit, f"{what}: limit") if message.HasField("limit") else None,
        message.lends if message.HasField("lends") else True,
        message.borrows if message.HasField("borrows") else True,
        message.max_sessions if message.HasField("max_sessions") else None,
        message.max_queued_tasks if message.HasField("max_queued_tasks") else None,
        message.max_queued_bytes if message.HasField("max_queued_bytes") else None,
    )


def tenant_spec_to(spec: TenantSpec) -> TenantSpecMessage:
    """Write it."""
    return TenantSpecMessage(
        name=spec.name,
        weight=spec.weight,
        quota=None if spec.quota is None else resources_to(spec.quota),
        limit=None if spec.limit is None else resources_to(spec.limit),
        lends=spec.lends,
        borrows=spec.borrows,
        max_sessions=spec.max_sessions,
        max_queued_tasks=spec.max_queued_tasks,
        max_queued_bytes=spec.max_queued_bytes,
    )


__all__ = [
    "ADMIN",
    "CordonNodeRequest",
    "CordonNodeResponse",
    "CreateTokenRequest",
    "CreatedToken",
    "DeleteTenantRequest",
    "DeleteTenantResponse",
    "DrainNodeRequest",
    "DrainProgress",
    "GetTenantRequest",
    "ListTaskLogsRequest",
    "ListTenantsRequest",
    "ListTokensRequest",
    "OutputPiece",
    "PutTenantRequest",
    "ReadExecutorOutputRequest",
    "ReadTaskOutputRequest",
    "RevokeTokenRequest",
    "RevokeTokenResponse",
    "TaskLogList",
    "TaskLogMessage",
    "TenantList",
    "TenantMessage",
    "TenantSpecMessage",
    "TenantStatus",
    "Token",
    "TokenList",
    "UncordonNodeRequest",
    "UncordonNodeResponse",
    "tenant_spec_of",
    "tenant_spec_to",
]
