"""Tokens: what a person or a program shows to be let in, made and revoked while the cluster runs.

    f.ID.SECRET        what its holder has; the secret is never stored, only its digest

The cluster's own token, in its file, is none of these: it cannot be revoked, only replaced.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.tenants import parse_tenant

TokenId = NewType("TokenId", str)

PREFIX = "f."
MAX_TENANTS = 64
MAX_NOTE = 200
_TOKEN = re.compile(r"f\.(?P<id>[a-z0-9]{8,32})\.(?P<secret>[A-Za-z0-9_-]{32,128})", re.ASCII)


class Role(Enum):
    """What a token's holder may do."""

    OPERATOR = "operator"  # everything, for any tenant
    USER = "user"  # sessions, tasks and applications of its tenants


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What is kept of a token.

    Attributes:
        role: What it opens.
        tenants: For whom it may act, those below them included; empty for an operator: for all. The
            first is meant where a call names none.
        digest: SHA-256 of the secret, which is random and long, so nothing slower is needed.
        note: Whose it is, for people.
    """

    role: Role
    tenants: tuple[Tenant, ...]
    digest: bytes
    note: str = ""

    def allows(self, tenant: Tenant) -> bool:
        """Whether its holder may act for the tenant."""
        if self.role is Role.OPERATOR:
            return True
        return any(tenant == own or tenant.startswith(f"{own}/") for own in self.tenants)

    def is_secret(self, secret: str) -> bool:
        """Whether this is the token's secret; takes as long whatever it is."""
        return hmac.compare_digest(digest_of(secret), self.digest)


def digest_of(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def token_text(token: TokenId, secret: str) -> str:
    """Return what the holder gets, once."""
    return f"{PREFIX}{token}.{secret}"


def parse_token(text: str) -> tuple[TokenId, str] | None:
    """Return the id and the secret, or None if it does not look like a token."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (TokenId(match["id"]), match["secret"])


def check_token(role: str, tenants: Sequence[str], digest: bytes, note: str) -> TokenSpec:
    """Return the specification if it makes sense.

    Raises:
        InvalidRequest: The field and what is allowed are named.
    """
    try:
        known = Role(role)
    except ValueError:
        allowed = ", ".join(each.value for each in Role)
        raise InvalidRequest(f"role is {role!r}; it must be one of {allowed}") from None
    names = tuple(dict.fromkeys(parse_tenant(name) for name in tenants))
    if known is Role.USER and not names:
        raise InvalidRequest("tenants: a user's token must name at least one tenant")
    if known is Role.OPERATOR and names:
        raise InvalidRequest("tenants: an operator's token is for all tenants; name none")
    if len(names) > MAX_TENANTS:
        raise InvalidRequest(f"tenants: {len(names)} are named; at most {MAX_TENANTS} may be")
    if len(note) > MAX_NOTE or not (note.isprintable() or not note):
        raise InvalidRequest(f"note must have at most {MAX_NOTE} printable characters")
    return TokenSpec(known, names, digest, note)
