"""Tenants as the configuration declares them.

    cluster:
      tenants:
        research: {weight: 3, quota: "cpu=8,mem=16g"}
        research/credit-risk: {weight: 2, limit: "cpu=4", borrows: true, lends: true}
        trading: {max_sessions: 100, max_queued_tasks: 1000000, max_queued_bytes: 4g}

The file has the last word on those that it lists; others are managed while the cluster runs. A tenant
that nobody created has weight 1 and no quota.
"""

from collections.abc import Mapping

import msgspec

from flame.model.tenant_text import read_tenant
from flame.model.tenants import TenantSpec, check_tree


class TenantBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one tenant is entitled to; the fields are those of ``TenantSpec``."""

    weight: float = 1.0
    quota: str | None = None
    limit: str | None = None
    lends: bool = True
    borrows: bool = True
    max_sessions: int | None = None
    max_queued_tasks: int | None = None
    max_queued_bytes: int | str | None = None


def read_tenants(blocks: Mapping[str, TenantBlock]) -> tuple[TenantSpec, ...]:
    """Return all tenants, parents first.

    Raises:
        InvalidRequest: The tenant, the field and what is allowed are named.
    """
    specs = [read_tenant(name, msgspec.structs.asdict(block)) for name, block in blocks.items()]
    return tuple(check_tree(specs).values())
