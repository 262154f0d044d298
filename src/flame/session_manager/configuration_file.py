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

from typing import Any, Literal

import msgspec

from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.session_manager.tenants import TenantBlock
from flame.storage.candidacy import LEASE_SECONDS

Policy = Literal["priority", "fair_share", "drf", "proportion", "fifo"]
DEFAULT_STORAGE = "sqlite://flame.db"


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block of the file."""


class Tls(Strict, frozen=True):
    """Paths of PEM files."""

    cert_file: str
    key_file: str
    ca_file: str | None = None


class Limits(Strict, frozen=True):
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


class SessionRecovery(Strict, frozen=True):
    """``retry_limits``: after so many failed binds in a row a session's tasks fail."""

    retry_limits: int = 5


class Recovery(Strict, frozen=True):
    """What is tried again, and how often."""

    session: SessionRecovery = SessionRecovery()


class Executors(Strict, frozen=True):
    """The shim of applications that name none."""

    shim: Literal["host"] = "host"


class Preemption(Strict, frozen=True):
    """Work that may be thrown away for a tenant or a priority that is owed its executor.

    Attributes:
        grace: Seconds that a running task gets to end; None: it is always waited for.
        budget: Executor-seconds of work, a second, that may be thrown away in the long run.
        burst: And at most this many at once.
    """

    grace: float | None = 30.0
    budget: float = 1.0
    burst: float = 600.0


class HighAvailability(Strict, frozen=True):
    """Several session managers on one PostgreSQL.

    Attributes:
        standby: Wait while another one leads.
        lease: Seconds after which the others may take over from one that is stopped or cut off.
        advertise: The address that the others name to clients; None: the one it listens on.
    """

    standby: bool = False
    lease: float = LEASE_SECONDS
    advertise: str | None = None


class PackagesBlock(Strict, frozen=True):
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


class Pprof(Strict, frozen=True):
    """A profiling port of released versions; there is none here."""

    port: int = 6060


class Eviction(Strict, frozen=True):
    """When the object cache drops objects."""

    policy: Literal["lru"] = "lru"
    max_memory: int | str = "1G"
    max_objects: int | None = None


class Cache(Strict, frozen=True):
    """The object cache's block: checked here, used by the cache."""

    endpoint: str = "http://127.0.0.1:9090"
    network_interface: str = "eth0"
    storage: str | None = None
    eviction: Eviction = Eviction()
    tls: Tls | None = None
    pprof: Pprof | None = None


class Cluster(Strict, frozen=True):
    """The session manager's block."""

    name: str = "flame"
    endpoint: str | list[str] = "http://127.0.0.1:8080"
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


class File(Strict, frozen=True):
    """All of it. A file with a ``node`` needs no ``cluster``: ``flame up`` gives it to both managers."""

    cluster: Cluster | None = None
    cache: Cache | None = None
    node: dict[str, Any] | None = None  # the executor manager's; it checks it
