"""Tenants: who shares the cluster, as a tree of names such as ``research/credit-risk``.

A tenant is entitled to its weight's part of what its parent gets. Its *quota* is guaranteed, whatever
the weights say; its *limit* is never exceeded. Idle quota serves others while the tenant *lends* it,
and a tenant that does not *borrow* stays within its quota.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flame.model.errors import InvalidRequest
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.resources import Resources

MAX_DEPTH = 8
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """What a tenant is entitled to.

    Attributes:
        name: Its path; ``research/credit-risk`` is below ``research``.
        weight: Its part, relative to its siblings.
        quota: Guaranteed; None: nothing beyond its share.
        limit: Never exceeded; None: as much as there is.
        lends: Others may use its quota while it does not.
        borrows: It may use more than its quota.
        max_sessions: Sessions that it and those below it may have open; None: no limit of its own.
        max_queued_tasks: Tasks that may wait in them for an executor.
        max_queued_bytes: The size of those tasks' inputs.
    """

    name: Tenant
    weight: float = 1.0
    quota: Resources | None = None
    limit: Resources | None = None
    lends: bool = True
    borrows: bool = True
    max_sessions: int | None = None
    max_queued_tasks: int | None = None
    max_queued_bytes: int | None = None

    @property
    def parent(self) -> Tenant | None:
        """The tenant above, or None at the top."""
        above, slash, _ = self.name.rpartition("/")
        return Tenant(above) if slash else None

    @property
    def ceiling(self) -> Resources | None:
        """What it may never exceed: its limit, or its quota if it does not borrow."""
        return self.limit if self.borrows else self.quota


DEFAULT_SPEC = TenantSpec(DEFAULT_TENANT)


def check_tenant(spec: TenantSpec) -> TenantSpec:
    """Return the specification if it makes sense by itself.

    Raises:
        InvalidRequest: The field and what is allowed are named.
    """
    what = f"tenant {spec.name!r}"
    parts = spec.name.split("/")
    if len(parts) > MAX_DEPTH or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidRequest(
            f"{what}: name: at most {MAX_DEPTH} parts joined by '/', each 1 to 63 letters, digits, "
            "'_', '.' or '-', as in research/credit-risk"
        )
    if not (spec.weight > 0 and math.isfinite(spec.weight)):
        raise InvalidRequest(f"{what}: weight is {spec.weight:g}; it must be above 0 and finite")
    for field, most in (
        ("max_sessions", spec.max_sessions),
        ("max_queued_tasks", spec.max_queued_tasks),
        ("max_queued_bytes", spec.max_queued_bytes),
    ):
        if most is not None and not 0 <= most < 2**63:
            raise InvalidRequest(f"{what}: {field} is {most}; it must be 0 or more, below 2^63")
    for field, amount in (("quota", spec.quota), ("limit", spec.limit)):
        if amount is not None and any(count < 0 for _, count in amount.named()):
            raise InvalidRequest(f"{what}: {field} is {amount}; no amount may be below 0")
    if spec.quota is not None and spec.limit is not None and not spec.quota.fits_in(spec.limit):
        raise InvalidRequest(f"{what}: quota {spec.quota} is over its limit {spec.limit}")
    if spec.quota is None and not spec.borrows:
        raise InvalidRequest(f"{what}: borrows is false, so it needs a quota")
    if spec.quota is None and not spec.lends:
        raise InvalidRequest(f"{what}: lends is false, so it needs a quota")
    return spec


def check_tree(
    specs: Iterable[TenantSpec], parents: Mapping[Tenant, Tenant | None] | None = None
) -> dict[Tenant, TenantSpec]:
    """Return all tenants by name, parents first, if they make sense together.

    Args:
        specs: All of them; ``default`` is added if it is not there.
        parents: What a file or a record says is above each, where it says so: it has to agree with
            the path.

    Raises:
        InvalidRequest: The tenant, the field and what is allowed are named.
    """
    by_name: dict[Tenant, TenantSpec] = {}
    for spec in specs:
        check_tenant(spec)
        if spec.name in by_name:
            raise InvalidRequest(f"tenant {spec.name!r}: name: it is there twice")
        by_name[spec.name] = spec
    by_name.setdefault(DEFAULT_TENANT, DEFAULT_SPEC)
    _check_parents(by_name, parents or {})
    for spec in by_name.values():
        _check_below(spec, [s for s in by_name.values() if s.parent == spec.name])
    return dict(sorted(by_name.items(), key=lambda item: (item[0].count("/"), item[0])))


def _check_parents(
    by_name: Mapping[Tenant, TenantSpec], parents: Mapping[Tenant, Tenant | None]
) -> None:
    for name in parents:
        seen, above = [name], parents.get(name)
        while above is not None:
            if above in seen:
                raise InvalidRequest(
                    f"tenant {name!r}: parent: a cycle, {' < '.join([*seen, above])}"
                )
            seen.append(above)
            above = parents.get(above)
    for name, spec in by_name.items():
        above = parents.get(name, spec.parent)
        if above != spec.parent:
            raise InvalidRequest(
                f"tenant {name!r}: parent is {above!r}, but its name says {spec.parent!r}"
            )
        if above is not None and above not in by_name:
            raise InvalidRequest(f"tenant {name!r}: parent {above!r} does not exist; add it first")


def _check_below(spec: TenantSpec, children: list[TenantSpec]) -> None:
    promised = Resources()
    for child in children:
        if child.quota is not None:
            promised = promised + child.quota
    roof = spec.quota if spec.quota is not None else spec.ceiling
    if roof is not None and not promised.fits_in(roof):
        field = "quota" if spec.quota is not None else "limit"
        raise InvalidRequest(
            f"tenant {spec.name!r}: {field} is {roof}, but the quotas of its children "
            f"({', '.join(c.name for c in children if c.quota is not None)}) are {promised} together"
        )


def parse_tenant(text: str) -> Tenant:
    """Read a tenant's name.

    Raises:
        InvalidRequest: It is none.
    """
    return check_tenant(TenantSpec(Tenant(text))).name
