"""Tenants and tokens, as rows, properties and documents."""

from flame.cli.documents.values import Document, date_time, present
from flame.model.resources import Resources, format_bytes
from flame.model.tenant_text import format_amount, write_tenant
from flame.sdk.admin_calls import TenantInfo, TokenInfo

TENANTS = {
    "NAME": 20,
    "WEIGHT": 8,
    "QUOTA": 15,
    "LIMIT": 15,
    "DESERVED": 10,
    "GOT": 8,
    "RATIO": 7,
    "USAGE": 8,
    "SESSIONS": 10,
    "EXECUTORS": 11,
    "QUEUED": 8,
    "BYTES": 8,
}
TOKENS = {"ID": 18, "ROLE": 10, "TENANTS": 20, "NOTE": 15, "CREATED": 20}


def tenant_row(info: TenantInfo) -> list[object]:
    """A row of :data:`TENANTS`."""
    return [
        info.name,
        f"{info.spec.weight:g}",
        _amount(info.spec.quota),
        _amount(info.spec.limit),
        _percent(info.deserved),
        _percent(info.got),
        _ratio(info),
        _percent(info.usage),
        info.open_sessions,
        info.executors,
        info.queued_tasks,
        format_bytes(info.queued_bytes),
    ]


def tenant_properties(info: TenantInfo) -> list[tuple[str, object]]:
    """What ``flmctl tenant view`` prints."""
    spec = info.spec
    return [
        ("Name", info.name),
        ("Declared", "by the configuration file" if info.declared else "no"),
        ("Created", date_time(info.created_ms)),
        ("Weight", f"{spec.weight:g}"),
        ("Quota", _amount(spec.quota)),
        ("Limit", _amount(spec.limit)),
        ("Lends", "yes" if spec.lends else "no"),
        ("Borrows", "yes" if spec.borrows else "no"),
        ("Sessions", _of(info.open_sessions, spec.max_sessions)),
        ("Queued tasks", _of(info.queued_tasks, spec.max_queued_tasks)),
        ("Queued bytes", _of(info.queued_bytes, spec.max_queued_bytes)),
        ("Executors", info.executors),
        ("Deserved", f"{_percent(info.deserved)} of the cluster"),
        ("Got", f"{_percent(info.got)} of the cluster"),
        ("Got/deserved", _ratio(info)),
        ("Over time", f"got {_percent(info.usage)}, deserved {_percent(info.usage_deserved)}"),
    ]


def tenant_document(info: TenantInfo) -> Document:
    """The whole tenant, in the form that ``flmctl tenant apply`` reads."""
    return {
        "metadata": {"name": info.name},
        "spec": write_tenant(info.spec),
        "status": present(
            declared=info.declared,
            created=date_time(info.created_ms),
            deserved=info.deserved,
            got=info.got,
            ratio=info.ratio,
            usage=info.usage,
            usage_deserved=info.usage_deserved,
            open_sessions=info.open_sessions,
            executors=info.executors,
            queued_tasks=info.queued_tasks,
            queued_bytes=info.queued_bytes,
        ),
    }


def token_row(info: TokenInfo) -> list[object]:
    """A row of :data:`TOKENS`."""
    return [info.id, info.role, ",".join(info.tenants), info.note, date_time(info.created_ms)]


def token_document(info: TokenInfo) -> Document:
    """All that is known of a token."""
    return {
        "metadata": {"id": info.id},
        "spec": {"role": info.role, "tenants": list(info.tenants), "note": info.note},
        "status": present(created=date_time(info.created_ms)),
    }


def _amount(amount: Resources | None) -> str | None:
    return None if amount is None else format_amount(amount)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _ratio(info: TenantInfo) -> str | None:
    return None if info.ratio is None else f"{info.ratio:.2f}"


def _of(count: int, most: int | None) -> str:
    return f"{count:,}" if most is None else f"{count:,} of {most:,}"
