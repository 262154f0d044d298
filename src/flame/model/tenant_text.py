"""Tenants as people write them, in files and on the command line.

weight: 3
quota: cpu=8,mem=16g
limit: cpu=16
lends: false
max_queued_tasks: 100000
max_queued_bytes: 4g
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.resource_text import format_resources, parse_bytes, parse_resources
from flame.model.resources import Resources, format_bytes
from flame.model.tenants import TenantSpec, check_tenant

#: What may be said of a tenant beside its name.
FIELDS = (
    "weight",
    "quota",
    "limit",
    "lends",
    "borrows",
    "max_sessions",
    "max_queued_tasks",
    "max_queued_bytes",
)
#: What takes a limit away again.
NO_LIMIT = "none"


def read_tenant(name: str, said: Mapping[str, Any], known: TenantSpec | None = None) -> TenantSpec:
    """Return a tenant with what is said of it; the rest is as it was, or as it is by itself.

    Raises:
        InvalidRequest: The tenant, the field and what is allowed are named.
    """
    spec = known or TenantSpec(Tenant(name))
    for field, value in said.items():
        if field not in FIELDS:
            raise InvalidRequest(
                f"tenant {name!r}: {field} is not known; allowed are {', '.join(FIELDS)}"
            )
        try:
            spec = replace(spec, **{field: _value(field, value)})
        except InvalidRequest as error:
            raise InvalidRequest(f"tenant {name!r}: {field}: {error}") from None
    return check_tenant(spec)


def write_tenant(spec: TenantSpec) -> dict[str, Any]:
    """Return what :func:`read_tenant` reads: all that is said of a tenant."""
    amounts = {"quota": spec.quota, "limit": spec.limit}
    counts = {
        "max_sessions": spec.max_sessions,
        "max_queued_tasks": spec.max_queued_tasks,
        "max_queued_bytes": spec.max_queued_bytes,
    }
    return {
        "weight": int(spec.weight) if spec.weight.is_integer() else spec.weight,
        **{field: format_amount(a) for field, a in amounts.items() if a is not None},
        "lends": spec.lends,
        "borrows": spec.borrows,
        **{field: count for field, count in counts.items() if count is not None},
    }


def format_amount(amount: Resources) -> str:
    """Write what is said of an amount: what is 0 is left out, memory is in its largest unit."""
    memory = format_bytes(amount.memory_bytes)
    if amount.memory_bytes and parse_bytes(memory) == amount.memory_bytes:
        rest = format_resources(replace(amount, memory_bytes=0))
        return ",".join(filter(None, [rest, f"mem={memory}"]))
    return format_resources(amount) or "cpu=0"


def _value(field: str, value: Any) -> Any:
    if field == "weight":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(f"{value!r} is not a number above 0")
        return float(value)
    if field in ("lends", "borrows"):
        if not isinstance(value, bool):
            raise InvalidRequest(f"{value!r} is neither true nor false")
        return value
    if value is None or value == NO_LIMIT:
        return None
    if field in ("quota", "limit"):
        if not isinstance(value, str):
            raise InvalidRequest(f"{value!r} is not an amount like 'cpu=8,mem=16g'")
        return parse_resources(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidRequest(f"{value!r} is not a whole number")
    if field == "max_queued_bytes":
        return parse_bytes(str(value))
    if not isinstance(value, int) and not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"{value!r} is not a whole number, nor {NO_LIMIT!r}")
    return int(value)
