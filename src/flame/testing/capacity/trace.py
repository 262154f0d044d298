"""What is simulated: a cluster, who shares it, and what arrives when. ``docs/simulate.md`` has every key.

    cluster:
      nodes:
        general: {count: 4, resources: "cpu=8,mem=32g"}
      tenants:
        research: {weight: 3}
      policies: [priority, fair_share]
    until: 600
    sessions:
      - {tenant: research, at: 0, tasks: 1000, task_length: 2.5}
    generators:
      - {tenant: trading, arrivals: {poisson: 0.05}, tasks: 20, task_length: {exponential: {mean: 5}}}

``cluster`` has the words of ``flame-cluster.yaml``. Times are seconds from the beginning.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from flame.model.errors import InvalidRequest
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.labels import Labels, Preferences, parse_labels, parse_preferences
from flame.model.resource_text import parse_resources
from flame.model.resources import UNIT, Resources
from flame.model.specs import DEFAULT_DELAY_RELEASE, DEFAULT_STANDBY
from flame.model.tenants import TenantSpec, check_tree, parse_tenant
from flame.scheduling.policies import ALLOWED, Policies, make_policy
from flame.testing.capacity.distributions import Distribution, constant, read_distribution
from flame.testing.capacity.reading import Block, Value, expand, read_file

MOST_NODES = 100_000
DONE, NEVER = "done", "never"


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes that are alike. ``leaves`` None: they stay."""

    name: str
    count: int
    resources: Resources
    labels: Labels = ()
    joins: float = 0.0
    leaves: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What there is, and how it is shared.

    Attributes:
        start: Seconds that an executor takes from the order to start it to its first task.
        reusable: Its process may serve other sessions of its tenant afterwards.
    """

    nodes: tuple[NodeGroup, ...]
    tenants: tuple[TenantSpec, ...] = ()
    policies: tuple[str, ...] = ("priority", "fair_share")
    placement: str = "spread"
    grace: float | None = 30.0
    budget: float = 1.0
    burst: float = 600.0
    delay_release: int = int(DEFAULT_DELAY_RELEASE)
    start: float = 0.5
    reusable: bool = False
    standby: int = int(DEFAULT_STANDBY)

    def made_policies(self) -> Policies:
        """Return the policies as the scheduler wants them."""
        return make_policy(self.policies, spread=self.placement == "spread", grace=self.grace)


@dataclass(frozen=True, slots=True)
class Load:
    """What a session is like.

    Attributes:
        closes: Seconds after its arrival, or ``done`` (with its last task), or ``never``.
    """

    tenant: Tenant
    tasks: Distribution
    task_length: Distribution
    resources: Resources = UNIT
    priority: int = 0
    min_instances: int = 0
    max_instances: int | None = None
    batch_size: int = 1
    closes: float | str = DONE
    require: Labels = ()
    prefer: Preferences = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """Sessions that arrive at a known time."""

    load: Load
    at: float = 0.0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Generator:
    """Sessions that arrive again and again: ``poisson`` (sessions a second), or ``every`` (seconds)."""

    load: Load
    poisson: float | None = None
    every: float | None = None
    begins: float = 0.0
    ends: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything there is to simulate. ``until`` None: until nothing is left to do."""

    cluster: ClusterSpec
    sessions: tuple[Listed, ...] = ()
    generators: tuple[Generator, ...] = ()
    until: float | None = None
    seed: int = 0
    name: str = field(default="trace", compare=False)


def read_trace(path: Path | str) -> Trace:
    """Read a trace.

    Raises:
        InvalidConfiguration: The file, the line, the key, what is there and what is allowed are
            named.
    """
    top = read_file(path)
    cluster = _read_cluster(top.take("cluster").block())
    tenants = {spec.name for spec in cluster.tenants}
    until = top.get("until", lambda value: value.number(0.0, above=True), None)
    sessions = [
        listed
        for value in top.get("sessions", Value.items, ())
        for listed in _read_listed(value, tenants)
    ]
    generators = [
        generator
        for value in top.get("generators", Value.items, ())
        for generator in _read_generators(value, tenants, until)
    ]
    seed = top.get("seed", lambda value: value.whole(0, 2**63), 0)
    top.close()
    return Trace(cluster, tuple(sessions), tuple(generators), until, seed, Path(path).stem)


# --- the cluster -------------------------------------------------------------------------------


def _read_cluster(block: Block) -> ClusterSpec:
    nodes = block.take("nodes")
    groups = tuple(_read_group(name, value) for name, value in nodes.block().each())
    if not groups:
        raise nodes.error("has no group of nodes")
    if sum(group.count for group in groups) > MOST_NODES:
        raise nodes.error(f"has more than {MOST_NODES:,} nodes")
    tenants = block.take("tenants")
    policies = block.get("policies", _read_policies, ("priority", "fair_share"))
    preemption = block.take("preemption")
    grace, budget, burst = (
        (30.0, 1.0, 600.0) if preemption.is_missing else _read_preemption(preemption.block())
    )
    start, reusable = block.get("executors", _read_executors, (0.5, False))
    made = ClusterSpec(
        groups,
        () if tenants.is_missing else _read_tenants(tenants),
        policies,
        block.get("placement", lambda value: value.one_of(("spread", "pack")), "spread"),
        grace,
        budget,
        burst,
        block.get("delay_release", lambda value: value.whole(0), int(DEFAULT_DELAY_RELEASE)),
        start,
        reusable,
        block.get("standby", lambda value: value.whole(0), int(DEFAULT_STANDBY)),
    )
    block.close()
    return made


def _read_group(name: str, value: Value) -> NodeGroup:
    block = value.block()
    joins = block.get("joins", Value.number, 0.0)
    group = NodeGroup(
        name,
        block.get("count", lambda count: count.whole(1, MOST_NODES), 1),
        block.take("resources").read_by(parse_resources),
        block.get("labels", lambda labels: labels.read_by(parse_labels), ()),
        joins,
        block.get("leaves", lambda leaves: leaves.number(joins, above=True), None),
    )
    block.close()
    return group


def _read_policies(value: Value) -> tuple[str, ...]:
    names = tuple(item.one_of(ALLOWED) for item in value.items())
    try:
        make_policy(names)
    except InvalidRequest as error:
        raise value.error(f"is wrong: {error}") from None
    return names


def _read_preemption(block: Block) -> tuple[float | None, float, float]:
    grace = block.take("grace")
    made = (
        # "grace:" with nothing behind it: a task is never thrown away.
        (None if grace.is_missing else grace.number()) if "grace" in block else 30.0,
        block.get("budget", Value.number, 1.0),
        block.get("burst", Value.number, 600.0),
    )
    block.close()
    return made


def _read_executors(value: Value) -> tuple[float, bool]:
    block = value.block()
    made = (block.get("start", Value.number, 0.5), block.get("reusable", Value.flag, False))
    block.close()
    return made


def _read_tenants(value: Value) -> tuple[TenantSpec, ...]:
    specs = [
        spec for pattern, below in value.block().each() for spec in _read_tenant(pattern, below)
    ]
    try:
        return tuple(check_tree(specs).values())
    except InvalidRequest as error:
        raise value.error(f"is wrong: {error}") from None


def _read_tenant(pattern: str, value: Value) -> list[TenantSpec]:
    names = [Tenant(name) for name in expand(pattern, value)]
    if value.is_missing:
        return [TenantSpec(name) for name in names]
    block = value.block()
    weight = block.take("weight")
    weights = [1.0] if weight.is_missing else [w.number(above=True) for w in _one_or_more(weight)]
    one = TenantSpec(
        names[0],
        quota=block.get("quota", lambda amount: amount.read_by(parse_resources), None),
        limit=block.get("limit", lambda amount: amount.read_by(parse_resources), None),
        lends=block.get("lends", Value.flag, True),
        borrows=block.get("borrows", Value.flag, True),
    )
    block.close()
    return [
        replace(one, name=name, weight=weights[index % len(weights)])
        for index, name in enumerate(names)
    ]


def _one_or_more(value: Value) -> list[Value]:
    items = value.items() if value.is_list else [value]
    if not items:
        raise value.error("is empty")
    return items


# --- what arrives ------------------------------------------------------------------------------


def _read_listed(value: Value, tenants: set[Tenant]) -> list[Listed]:
    block = value.block()
    loads = _read_loads(block, tenants)
    at = block.get("at", Value.number, 0.0)
    count = block.get("count", lambda count: count.whole(1, 1_000_000), 1)
    block.close()
    return [Listed(load, at, count) for load in loads]


def _read_generators(value: Value, tenants: set[Tenant], until: float | None) -> list[Generator]:
    block = value.block()
    loads = _read_loads(block, tenants)
    arrivals = block.take("arrivals").block()
    poisson = arrivals.get("poisson", lambda rate: rate.number(above=True, most=1e5), None)
    every = arrivals.get("every", lambda gap: gap.number(1e-5), None)
    arrivals.close()
    if (poisson is None) == (every is None):
        raise arrivals.value.error("must have exactly one of poisson, every")
    begins = block.get("begins", Value.number, 0.0)
    ends = block.get("ends", lambda end: end.number(begins, above=True), None)
    block.close()
    if ends is None and until is None:
        raise value.error("never ends: it needs ends, or the file needs until")
    return [Generator(load, poisson, every, begins, ends) for load in loads]


def _read_loads(block: Block, tenants: set[Tenant]) -> list[Load]:
    """Read what sessions are like: once for each tenant that ``tenant`` stands for."""
    tenant = block.take("tenant")
    names = [DEFAULT_TENANT] if tenant.is_missing else _names(tenant, tenants)
    batch = block.get("batch_size", lambda size: size.whole(1, 100_000), 1)
    least = block.get("min_instances", lambda count: count.whole(0, 10_000_000), 0)
    most = block.get("max_instances", lambda count: count.whole(1, 10_000_000), None)
    if most is not None and most < least:
        raise block.take("max_instances").error(f"is {most}, below min_instances, which is {least}")
    for key, count in (("min_instances", least), ("max_instances", most or 0)):
        if count % batch:
            raise block.take(key).error(
                f"is {count}; it must be a multiple of batch_size, which is {batch}"
            )
    return [
        Load(
            name,
            block.get("tasks", lambda value: read_distribution(value, whole=True), constant(1)),
            read_distribution(block.take("task_length")),
            block.get("resources", lambda value: value.read_by(parse_resources), UNIT),
            block.get("priority", lambda value: value.whole(-(2**31), 2**31 - 1), 0),
            least,
            most,
            batch,
            block.get("closes", _read_closes, DONE),
            block.get("require", lambda value: value.read_by(_read_required), ()),
            block.get("prefer", lambda value: value.read_by(parse_preferences), ()),
        )
        for name in names
    ]


def _names(value: Value, tenants: set[Tenant]) -> list[Tenant]:
    names = [
        value.read_by(lambda _, name=name: parse_tenant(name))  # type: ignore[misc]
        for name in expand(value.text(), value)
    ]
    for name in names:
        if tenants and name not in tenants:
            raise value.error(f"is {name!r}, which is not among cluster.tenants")
    return names


def _read_required(text: str) -> Labels:
    return parse_labels(text, "require")


def _read_closes(value: Value) -> float | str:
    word = value.plain()
    return word if word in (DONE, NEVER) else value.number()
