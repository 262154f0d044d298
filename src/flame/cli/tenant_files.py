"""Tenant files: what ``flmctl tenant apply`` reads, and ``flmctl tenant view -o yaml`` writes.

    metadata:
      name: research/credit-risk
    spec:
      weight: 2
      limit: cpu=4

One file may hold several documents, separated by ``---``, or a list of them; parents come first.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.tenant_text import read_tenant
from flame.model.tenants import TenantSpec

_KEYS = ("metadata", "spec", "status")  # `status` is what `view` adds


def read_tenants(path: str) -> list[TenantSpec]:
    """Read all tenants of a file (``-``: stdin).

    Raises:
        InvalidConfiguration: The file cannot be read, or says something that is not allowed.
    """
    import yaml  # only who has a file pays for it

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidConfiguration(f"{path}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"{path}: is not YAML: {error}") from error
    found = [
        _tenant(path, one)
        for document in documents
        for one in (document if isinstance(document, list) else [document])
        if one is not None
    ]
    if not found:
        raise InvalidConfiguration(f"{path}: holds no tenant (metadata.name and spec)")
    return found


def _tenant(path: str, document: Any) -> TenantSpec:
    if not isinstance(document, Mapping) or not set(document) <= set(_KEYS):
        raise InvalidConfiguration(f"{path}: a tenant has the keys {', '.join(_KEYS)}")
    metadata, spec = document.get("metadata"), document.get("spec") or {}
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        raise InvalidConfiguration(f"{path}: metadata.name is missing, or is no text")
    if not isinstance(spec, Mapping):
        raise InvalidConfiguration(f"{path}: tenant {name!r}: spec must be a mapping")
    try:
        return read_tenant(name, spec)
    except InvalidRequest as error:
        raise InvalidConfiguration(f"{path}: {error}") from None
