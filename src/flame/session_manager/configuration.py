"""``flame-cluster.yaml``: the released version's keys, read strictly.

    cluster:
      name: flame
      endpoint: http://127.0.0.1:8080    # or a list of all session managers, for nodes and clients
      resreq: cpu=1,mem=1g,gpu=0         # what a session's executors take if it does not say
      policies: [priority, drf]          # or fair_share (the same as drf), proportion, fifo
      tenants: {research: {weight: 3, quota: "cpu=8,mem=16g"}}
      preemption: {grace: 30, budget: 1, burst: 600}   # seconds; executor-seconds (a second)
      placement: spread                  # or pack
      storage: sqlite://flame.db         # or sqlite:///abs/path.db, postgresql://..., or memory
      schedule_interval: 100             # read and not needed: scheduling follows events
      executors: {shim: host}
      packages: {directory: /var/lib/flame/packages, max_size: 1g, max_total: 20g, keep_hours: 24}
      limits: {max_sessions: 1000, max_executors: 128, max_input: 16m, max_queued_tasks: 5000000,
               max_queued_bytes: 8g, max_connections: 10000, max_watches: 100000}
      recovery: {session: {retry_limits: 5}}
      high_availability: {standby: true, lease: 3, advertise: "http://first:8080"}
      tls: {cert_file: ..., key_file: ..., ca_file: ...}
    cache: {...}                         # the object cache's; checked, not used here
    node: {labels: {zone: a}, resources: "fpga=1"}   # the executor manager's

An unknown key is an error, because a limit that is misspelt is a limit that is not there.
"""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import yaml

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.resource_text import parse_bytes, parse_resources
from flame.model.resources import UNIT, Resources
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.model.tenants import DEFAULT_SPEC, TenantSpec
from flame.scheduling.policies import make_policy
from flame.session_manager.package_store import DEFAULT_MAX_SIZE, DEFAULT_MAX_TOTAL
from flame.session_manager.packages import DEFAULT_KEEP_HOURS
from flame.session_manager.tenants import TenantBlock, read_tenants
from flame.storage.candidacy import LEASE_SECONDS
from flame.wire.channels import Endpoint
from flame.wire.managers import parse_endpoints

Policy = Literal["priority", "fair_share", "drf", "proportion", "fifo"]
DEFAULT_STORAGE = "sqlite://flame.db"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block of the file."""


class Tls(_Strict, frozen=True):
    """Paths of PEM files."""

    cert_file: str
    key_file: str
    ca_file: str | None = None


class Limits(_Strict, frozen=True):
    """What the cluster takes on.

    Attributes:
        max_sessions: Open sessions; None: no limit.
        max_executors: Executors of the whole cluster.
        max_queued_tasks: Tasks waiting in all sessions; None: as many as each session may have.
        max_queued_bytes: The size of their inputs, as ``8g`` or a number of bytes.
        max_connections: Clients that are connected at once.
        max_watches: Tasks that are watched one by one (``WatchTask``) at once.
        max_input: The largest input, output and common data, as ``16m`` or a number of bytes.
        closed_sessions: Closed sessions that are kept, the last ones; None: no limit.
        closed_session_hours: For how long they are kept; None: until somebody deletes them.
    """

    max_sessions: int | None = None
    max_executors: int = 128
    max_queued_tasks: int | None = None
    max_queued_bytes: int | str | None = None
    max_connections: int = 10_000
    max_watches: int = 100_000
    max_input: int | str = DEFAULT_MAX_INPUT_BYTES
    closed_sessions: int | None = None
    closed_session_hours: int | None = None


class SessionRecovery(_Strict, frozen=True):
    """``retry_limits``: after so many failed binds in a row a session's tasks fail."""

    retry_limits: int = 5


class Recovery(_Strict, frozen=True):
    """What is tried again, and how often."""

    session: SessionRecovery = SessionRecovery()


class Executors(_Strict, frozen=True):
    """The shim of applications that name none."""

    shim: Literal["host"] = "host"


class Preemption(_Strict, frozen=True):
    """Work that may be thrown away for a tenant or a priority that is owed its executor.

    Attributes:
        grace: Seconds that a running task gets to end; None: it is always waited for.
        budget: Executor-seconds of work, a second, that may be thrown away in the long run.
        burst: And at most this many at once.
    """

    grace: float | None = 30.0
    budget: float = 1.0
    burst: float = 600.0


class HighAvailability(_Strict, frozen=True):
    """Several session managers on one PostgreSQL.

    Attributes:
        standby: Wait while another one leads.
        lease: Seconds after which the others may take over from one that is stopped or cut off.
        advertise: The address that the others name to clients; None: the one it listens on.
    """

    standby: bool = False
    lease: float = LEASE_SECONDS
    advertise: str | None = None


class PackagesBlock(_Strict, frozen=True):
    """Where uploaded packages are kept, and how many.

    Attributes:
        directory: None: beside the database; with ``memory`` a temporary one.
        max_size: Of one package, as ``1g`` or a number of bytes.
        max_total: Of all of them.
        keep_hours: For how long one that no application refers to is kept.
    """

    directory: str | None = None
    max_size: int | str = "1g"
    max_total: int | str = "20g"
    keep_hours: int = 24


class Pprof(_Strict, frozen=True):
    """A profiling port of released versions; there is none here."""

    port: int = 6060


class Eviction(_Strict, frozen=True):
    """When the object cache drops objects."""

    policy: Literal["lru"] = "lru"
    max_memory: int | str = "1G"
    max_objects: int | None = None


class Cache(_Strict, frozen=True):
    """The object cache's block: checked here, used by the cache."""

    endpoint: str = "http://127.0.0.1:9090"
    network_interface: str = "eth0"
    storage: str | None = None
    eviction: Eviction = Eviction()
    tls: Tls | None = None
    pprof: Pprof | None = None


class Cluster(_Strict, frozen=True):
    """The session manager's block."""

    name: str
    endpoint: str | list[str]
    resreq: str | None = None
    policies: list[Policy] = msgspec.field(default_factory=lambda: ["priority", "drf"])
    tenants: dict[str, TenantBlock] = {}
    preemption: Preemption = Preemption()
    placement: Literal["spread", "pack"] = "spread"
    storage: str = DEFAULT_STORAGE
    schedule_interval: int = 100
    executors: Executors = Executors()
    packages: PackagesBlock = PackagesBlock()
    limits: Limits = Limits()
    recovery: Recovery = Recovery()
    high_availability: HighAvailability = HighAvailability()
    tls: Tls | None = None
    pprof: Pprof | None = None


class _File(_Strict, frozen=True):
    cluster: Cluster
    cache: Cache | None = None
    node: dict[str, Any] | None = None  # the executor manager's; it checks it


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
        file = msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        raise InvalidConfiguration(f"{path}: {_explain(str(error), data)}") from None
    return _checked(path, file.cluster)


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


_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")


def _explain(text: str, data: Any) -> str:
    """Say msgspec's complaint in the file's words: dotted key, what was seen, what is allowed."""
    match = _AT.fullmatch(text)
    what, steps = (match["what"], _steps(match["at"] or "", data)) if match else (text, [])
    at = _dotted(steps)
    unknown = _UNKNOWN.fullmatch(what)
    if unknown:
        allowed = ", ".join(sorted(_keys_at(steps)))
        return f"{_dotted([*steps, unknown['key']])} is not known; allowed here are {allowed}"
    if "required field" in what:
        return f"{_dotted([*steps, what.rpartition('field ')[2].strip('`')])} is missing"
    seen = _value_at(steps, data)
    allowed_values = _choices_at(steps)
    hint = f"; allowed are {', '.join(allowed_values)}" if allowed_values else f": {what}"
    return f"{at or 'the file'} cannot be {seen!r}{hint}"


def _steps(at: str, data: Any) -> list[str | int]:
    """Take a place apart. Of mappings msgspec does not say which entry it is: the first that is wrong."""
    steps: list[str | int] = []
    for index, name in _STEP.findall(at):
        if index == "...":
            steps.append(_wrong_entry(steps, data))
        else:
            steps.append(int(index) if index else name)
    return steps


def _wrong_entry(steps: list[str | int], data: Any) -> str:
    kind = get_args(_type_at(steps))[1]
    for name, value in _value_at(steps, data).items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return str(name)
    raise AssertionError(f"every entry of {_dotted(steps)} is as it should be")


def _dotted(steps: list[str | int]) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _type_at(steps: list[str | int]) -> Any:
    found: Any = _File
    for step in steps:
        if get_origin(found) is dict:
            found = get_args(found)[1]
            continue
        candidates = [found, *get_args(found)]
        blocks = [c for c in candidates if isinstance(c, type) and issubclass(c, msgspec.Struct)]
        if not blocks:
            break  # inside a list
        types = {f.encode_name: f.type for f in msgspec.structs.fields(blocks[0])}
        found = types.get(str(step))
    return found


def _keys_at(steps: list[str | int]) -> list[str]:
    found = _type_at(steps)
    for candidate in (found, *get_args(found)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return [f.encode_name for f in msgspec.structs.fields(candidate)]
    return []


def _choices_at(steps: list[str | int]) -> list[str]:
    found = _type_at(steps)
    for candidate in (found, *get_args(found)):
        values = get_args(candidate)
        if values and all(isinstance(value, str) for value in values):
            return list(values)
    return [value for value in get_args(found) if isinstance(value, str)]


def _value_at(steps: list[str | int], data: Any) -> Any:
    for step in steps:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return data
