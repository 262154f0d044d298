"""Server reflection and health over our own descriptor pool.

Flame's descriptors are in a pool of their own (``pb.pool``), so the reflection service gets one that
has them and those of the two standard services.
"""

from typing import Any

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from flame.wire.pb.admin import admin_pb2
from flame.wire.pb.channel import executor_channel_pb2, node_channel_pb2, task_channel_pb2
from flame.wire.pb.package import packages_pb2
from flame.wire.pb.v0 import frontend_pb2 as v0_frontend_pb2
from flame.wire.pb.v1 import backend_pb2, frontend_pb2

# (typed loosely: the stubs give generated descriptors two unrelated types)
_FILES: tuple[Any, ...] = (
    frontend_pb2.DESCRIPTOR,
    v0_frontend_pb2.DESCRIPTOR,
    backend_pb2.DESCRIPTOR,
    admin_pb2.DESCRIPTOR,
    task_channel_pb2.DESCRIPTOR,
    executor_channel_pb2.DESCRIPTOR,
    node_channel_pb2.DESCRIPTOR,
    packages_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


def served_services() -> tuple[str, ...]:
    """Return the full names of every service that a session manager serves."""
    return tuple(service.full_name for file in _FILES for service in file.services_by_name.values())


def served_pool() -> DescriptorPool:
    """Return a pool that describes them all."""
    pool = DescriptorPool()
    seen: set[str] = set()
    for file in _FILES:
        _add(pool, file, seen)
    return pool


def _add(pool: DescriptorPool, file: FileDescriptor, seen: set[str]) -> None:
    if file.name in seen:
        return
    seen.add(file.name)
    for dependency in file.dependencies:  # a pool wants them first
        _add(pool, dependency, seen)
    pool.AddSerializedFile(file.serialized_pb)


class Health:
    """The standard health service: SERVING while it leads, until told that the server goes away."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serving(self) -> None:
        """Say that every service is served."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def standing_by(self) -> None:
        """Say that none is, for now."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _say(self, status: int) -> None:
        for name in (health.OVERALL_HEALTH, *served_services()):
            await self._servicer.set(name, status)

    async def leaving(self) -> None:
        """Say NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()


def add_reflection(server: grpc.aio.Server) -> None:
    """Let tools ask the server what it serves."""
    reflection.enable_server_reflection(served_services(), server, served_pool())
