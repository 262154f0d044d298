"""Tenants as the configuration lists them.

    cluster:
      tenants:
        research: {weight: 3, quota: "cpu=8,mem=16g"}
        research/credit-risk: {weight: 2, limit: "cpu=4", borrows: true, lends: true}
        trading: {}

A tenant that is not listed has weight 1 and no quota.
"""

from collections.abc import Mapping

import msgspec

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.resource_text import parse_resources
from flame.model.resources import Resources
from flame.model.tenants import TenantSpec, check_tree


class TenantBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one tenant is entitled to; the fields are those of ``TenantSpec``."""

    weight: float = 1.0
    quota: str | None = None
    limit: str | None = None
    lends: bool = True
    borrows: bool = True


def read_tenants(blocks: Mapping[str, TenantBlock]) -> tuple[TenantSpec, ...]:
    """Return all tenants, parents first.

    Raises:
        InvalidRequest: The tenant, the field and what is allowed are named.
    """
    specs = [
        TenantSpec(
            Tenant(name),
            block.weight,
            _amount(name, "quota", block.quota),
            _amount(name, "limit", block.limit),
            block.lends,
            block.borrows,
        )
        for name, block in blocks.items()
    ]
    return tuple(check_tree(specs).values())


def _amount(name: str, field: str, text: str | None) -> Resources | None:
    if text is None:
        return None
    try:
        return parse_resources(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"tenant {name!r}: {field}: {error}") from None
