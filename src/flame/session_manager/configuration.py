"""What a session manager needs to know, and how it is read from ``flame-cluster.yaml``."""

from pathlib import Path

import msgspec
import yaml

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.resource_text import parse_bytes, parse_resources
from flame.model.resources import UNIT, Resources
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.model.tenants import DEFAULT_SPEC, TenantSpec
from flame.scheduling.policies import make_policy
from flame.session_manager.configuration_errors import explain
from flame.session_manager.configuration_file import (
    DEFAULT_STORAGE,
    Cluster,
    File,
    HighAvailability,
    Preemption,
    Tls,
)
from flame.session_manager.package_store import DEFAULT_MAX_SIZE, DEFAULT_MAX_TOTAL
from flame.session_manager.packages import DEFAULT_KEEP_HOURS
from flame.session_manager.tenants import read_tenants
from flame.wire.channels import Endpoint
from flame.wire.managers import parse_endpoints


class PackageSettings(msgspec.Struct, frozen=True):
    """The block ``packages`` with every text read."""

    directory: str | None = None
    max_size: int = DEFAULT_MAX_SIZE
    max_total: int = DEFAULT_MAX_TOTAL
    keep_hours: int = DEFAULT_KEEP_HOURS


class Configuration(msgspec.Struct, frozen=True):
    """What a session manager needs to know, with every text read.

    Attributes:
        endpoint: Where it listens, unless the command line says otherwise.
        is_one_of_several: The file names several session managers, so the command line has to.
        resources: What a session's executors take if it does not say.
        tenants: All of them, parents first.
        retry_limits: Failed binds in a row after which a session's pending tasks fail.
    """

    name: str = "flame"
    endpoint: Endpoint = Endpoint("127.0.0.1", 8080, False)
    is_one_of_several: bool = False
    storage: str = DEFAULT_STORAGE
    resources: Resources = UNIT
    policies: tuple[str, ...] = ("priority", "drf")
    tenants: tuple[TenantSpec, ...] = (DEFAULT_SPEC,)
    preemption: Preemption = Preemption()
    placement: str = "spread"
    max_sessions: int | None = None
    max_executors: int = 128
    max_queued_tasks: int | None = None
    max_queued_bytes: int | None = None
    max_connections: int = 10_000
    max_watches: int = 100_000
    max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES
    retry_limits: int = 5
    closed_sessions: int | None = None
    closed_session_hours: int | None = None
    high_availability: HighAvailability = HighAvailability()
    packages: PackageSettings = PackageSettings()
    tls: Tls | None = None


def load(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        InvalidConfiguration: It cannot be read, is not YAML, or has a key or value that is not
            allowed; the text names the file, the key and what is allowed.
    """
    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise InvalidConfiguration(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        file = msgspec.convert(data, File)
    except msgspec.ValidationError as error:
        raise InvalidConfiguration(f"{path}: {explain(str(error), data, File)}") from None
    if file.cluster is None and file.node is None:
        raise InvalidConfiguration(f"{path}: cluster is missing")
    return _checked(path, file.cluster or Cluster())


def _checked(path: Path, cluster: Cluster) -> Configuration:
    limits = cluster.limits
    for key, value, least in (
        ("cluster.limits.max_sessions", limits.max_sessions, 1),
        ("cluster.limits.max_executors", limits.max_executors, 0),
        ("cluster.limits.max_queued_tasks", limits.max_queued_tasks, 1),
        ("cluster.limits.max_connections", limits.max_connections, 1),
        ("cluster.limits.max_watches", limits.max_watches, 1),
        ("cluster.limits.closed_sessions", limits.closed_sessions, 0),
        ("cluster.limits.closed_session_hours", limits.closed_session_hours, 0),
        ("cluster.recovery.session.retry_limits", cluster.recovery.session.retry_limits, 1),
        ("cluster.preemption.grace", cluster.preemption.grace, 0),
        ("cluster.preemption.budget", cluster.preemption.budget, 0),
        ("cluster.preemption.burst", cluster.preemption.burst, 0),
        ("cluster.packages.keep_hours", cluster.packages.keep_hours, 0),
        ("cluster.schedule_interval", cluster.schedule_interval, 1),
        ("cluster.high_availability.lease", cluster.high_availability.lease, 1),
    ):
        if value is not None and value < least:
            raise InvalidConfiguration(f"{path}: {key} is {value}; it must be {least} or more")
    if len(set(cluster.policies)) != len(cluster.policies):
        raise InvalidConfiguration(f"{path}: cluster.policies names a policy twice")
    key = "cluster.policies"
    try:
        make_policy(cluster.policies)
        key = "cluster.tenants"
        tenants = read_tenants(cluster.tenants)
        key = "cluster.endpoint"
        endpoints = parse_endpoints(cluster.endpoint)
        key = "cluster.resreq"
        resources = UNIT if cluster.resreq is None else parse_resources(cluster.resreq)
        key = "cluster.limits.max_queued_bytes"
        most = limits.max_queued_bytes
        max_queued_bytes = None if most is None else parse_bytes(str(most))
        key = "cluster.limits.max_input"
        max_input_bytes = parse_bytes(str(limits.max_input))
        if not 1 <= max_input_bytes < 2**31 - 2 * 1024 * 1024:  # gRPC counts in 32 bits
            raise InvalidRequest(f"{limits.max_input} is not between 1 byte and 2045m")
        key = "cluster.packages.max_size"
        max_package = parse_bytes(str(cluster.packages.max_size))
        key = "cluster.packages.max_total"
        max_packages = parse_bytes(str(cluster.packages.max_total))
    except (InvalidRequest, InvalidConfiguration) as error:
        raise InvalidConfiguration(f"{path}: {key}: {error}") from error
    if endpoints[0].tls and cluster.tls is None:
        raise InvalidConfiguration(
            f"{path}: cluster.endpoint is https, so cluster.tls must name cert_file and key_file"
        )
    return Configuration(
        name=cluster.name,
        endpoint=endpoints[0],
        is_one_of_several=len(endpoints) > 1,
        storage=cluster.storage,
        resources=resources,
        policies=tuple(cluster.policies),
        tenants=tenants,
        preemption=cluster.preemption,
        placement=cluster.placement,
        max_sessions=limits.max_sessions,
        max_executors=limits.max_executors,
        max_queued_tasks=limits.max_queued_tasks,
        max_queued_bytes=max_queued_bytes,
        max_connections=limits.max_connections,
        max_watches=limits.max_watches,
        max_input_bytes=max_input_bytes,
        retry_limits=cluster.recovery.session.retry_limits,
        closed_sessions=limits.closed_sessions,
        closed_session_hours=limits.closed_session_hours,
        high_availability=cluster.high_availability,
        packages=PackageSettings(
            directory=cluster.packages.directory,
            max_size=max_package,
            max_total=max_packages,
            keep_hours=cluster.packages.keep_hours,
        ),
        tls=cluster.tls,
    )
