"""Which of a cluster's session managers leads: each is asked for itself, so nobody has to lead."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from flame.model.errors import InvalidConfiguration
from flame.sdk.configuration import ClientConfiguration, resolve
from flame.sdk.io_thread import check_not_forked, io_thread
from flame.wire.channels import Endpoint, bearer
from flame.wire.managers import Managers

LEADER, STANDBY, UNREACHABLE = "leader", "standby", "unreachable"

_HEALTH = "/grpc.health.v1.Health/Check"
_ROLES = {
    health_pb2.HealthCheckResponse.SERVING: LEADER,
    health_pb2.HealthCheckResponse.NOT_SERVING: STANDBY,
}


@dataclass(frozen=True, slots=True)
class ManagerInfo:
    """A session manager.

    Attributes:
        role: ``leader``, ``standby`` or ``unreachable``.
        detail: Why it cannot be reached; empty otherwise.
    """

    endpoint: str
    role: str
    detail: str = ""


def list_managers(
    endpoint: str | Sequence[str] | None = None,
    *,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    default_endpoint: str | None = None,
    timeout: float = 3.0,
) -> list[ManagerInfo]:
    """Ask each session manager that is named, here or in the configuration, what it does.

    Raises:
        InvalidConfiguration: An option, variable or file has a wrong value, or nothing is named.
    """
    check_not_forked()
    configuration = resolve(
        endpoint,
        token=token,
        token_file=token_file,
        ca_file=ca_file,
        config=config,
        default_endpoint=default_endpoint,
    )
    if not configuration.endpoints:
        raise InvalidConfiguration("no session manager is named; give an endpoint")
    return io_thread().run(_ask_all(configuration, timeout))


async def _ask_all(configuration: ClientConfiguration, timeout: float) -> list[ManagerInfo]:
    async with Managers(configuration.endpoints, ca_file=configuration.ca_file) as managers:
        asked = [
            _ask(endpoint, channel, configuration.token, timeout)
            for endpoint, channel in managers.channels.items()
        ]
        return list(await asyncio.gather(*asked))


async def _ask(
    endpoint: Endpoint, channel: grpc.aio.Channel, token: str | None, timeout: float
) -> ManagerInfo:
    check = channel.unary_unary(
        _HEALTH,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await check(
            health_pb2.HealthCheckRequest(), metadata=bearer(token), timeout=timeout
        )
    except grpc.aio.AioRpcError as error:
        detail = f"{error.code().name}: {error.details()}"
        return ManagerInfo(str(endpoint), UNREACHABLE, detail)
    return ManagerInfo(str(endpoint), _ROLES.get(answer.status, UNREACHABLE))
