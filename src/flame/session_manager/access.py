"""Who calls, and what that caller may do: decided in one place, deny by default.

    credential                    what it opens
    ────────────────────────────  ─────────────────────────────────────────────────────────
    the cluster's token           everything but the executor channel, for any tenant
    an operator's token           the same, until it is revoked
    a user's token                sessions, tasks, applications and logs, of its tenants only
    an executor's credential      the executor channel, as that executor and incarnation only
    none, with ``--anonymous``    Frontend, package upload, health, reflection; always as tenant ``default``
    none, or one nobody knows     nothing

The server asks before a handler is even looked up; a service that is not in :data:`ALLOWED` is closed
to everybody. The call's metadata may choose a tenant (``flame-tenant``) among those that its credential
allows.
"""

import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from flame.model.credentials import PREFIX, Role, TokenId, TokenSpec, digest_of, parse_token
from flame.model.errors import (
    InvalidConfiguration,
    NotLeading,
    PermissionDenied,
    Unauthenticated,
)
from flame.model.ids import DEFAULT_TENANT, ExecutorId, Tenant
from flame.model.tenants import parse_tenant
from flame.wire import v1
from flame.wire.channels import AUTHORIZATION


class CallerKind(Enum):
    """What kind of credential a call came with."""

    OPERATOR = "operator"
    USER = "user"
    EXECUTOR = "executor"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        tenant: For whom this call is.
        executor, incarnation: An executor's own, else empty and 0.
        token: Which token it came with, if that can be revoked.
        spec: What that token opens.
    """

    tenant: Tenant
    kind: CallerKind
    executor: ExecutorId = ExecutorId("")
    incarnation: int = 0
    token: TokenId | None = None
    spec: TokenSpec | None = None

    def may_be(self, tenant: Tenant) -> bool:
        """Whether its credential would let it act for the tenant."""
        if self.kind is CallerKind.OPERATOR:
            return True
        return tenant == self.tenant if self.spec is None else self.spec.allows(tenant)


_OPERATORS = frozenset({CallerKind.OPERATOR})
_WITH_TOKEN = frozenset({CallerKind.OPERATOR, CallerKind.USER})
_NOT_USERS = frozenset({CallerKind.OPERATOR, CallerKind.ANONYMOUS})
_CLIENTS = frozenset({CallerKind.OPERATOR, CallerKind.USER, CallerKind.ANONYMOUS})

#: Which callers may call a service, or one of its methods. What is not named may be called by nobody.
ALLOWED: dict[str, frozenset[CallerKind]] = {
    "flame.Frontend": _CLIENTS,
    "flame.v1.Frontend": _CLIENTS,
    "flame.v1.Frontend/ListNodes": _NOT_USERS,
    "flame.v1.Frontend/GetNode": _NOT_USERS,
    "flame.v1.Backend": _OPERATORS,
    "flame.admin.v1.Admin": _OPERATORS,
    "flame.admin.v1.Admin/ListTenants": _WITH_TOKEN,
    "flame.admin.v1.Admin/GetTenant": _WITH_TOKEN,
    "flame.admin.v1.Admin/ListTaskLogs": _WITH_TOKEN,
    "flame.admin.v1.Admin/ReadTaskOutput": _WITH_TOKEN,
    "flame.admin.v1.Admin/ReadExecutorOutput": _WITH_TOKEN,
    "flame.channel.v1.TaskChannel": _WITH_TOKEN,
    "flame.channel.v1.NodeChannel": _OPERATORS,
    "flame.channel.v1.ExecutorChannel": frozenset({CallerKind.EXECUTOR}),
    "flame.package.v1.PackageUpload": _CLIENTS,
    "flame.package.v1.PackageDownload": _OPERATORS,
    "grpc.health.v1.Health": _CLIENTS,
    "grpc.reflection.v1alpha.ServerReflection": _CLIENTS,
}


def caller_of(context: Any) -> Caller:
    """Return who makes the call that a handler is serving."""
    caller: Caller = context.caller
    return caller


class Access:
    """Says who makes a call, or refuses it before any handler is looked up.

    Attributes:
        find_token: Returns what a token opens, by its id; None: nothing.
    """

    def __init__(self, token: str, *, anonymous: bool = False) -> None:
        self.find_token: Callable[[TokenId], TokenSpec | None] = _no_tokens
        self._token = token
        self._expected = b"Bearer " + token.encode()
        self._anonymous = anonymous

    def admit(self, method: str, metadata: Any) -> Caller:
        """Return who calls the method (``/package.Service/Method``) with this metadata.

        Raises:
            FlameError: There is no such caller, or it may not call this.
        """
        caller = self.authenticate(metadata)
        authorize(caller, method)
        return caller

    def authenticate(self, metadata: Any) -> Caller:
        """Read the caller out of a call's metadata.

        Raises:
            Unauthenticated: There is no credential, or one that nobody knows.
            PermissionDenied: The credential is not for the tenant that the call names.
            InvalidRequest: The tenant's name is malformed.
        """
        credential = tenant = None
        for key, value in metadata or ():
            if key == AUTHORIZATION:
                credential = value if isinstance(value, bytes) else value.encode()
            elif key == v1.TENANT_KEY:
                tenant = value
        if credential is None:
            if self._anonymous:
                return _ANONYMOUS
            raise Unauthenticated(
                "this call carries no credential; send the metadata 'authorization: Bearer <token>' "
                "with the cluster's token, or start the session manager with --anonymous on "
                "loopback for clients that cannot"
            )
        if hmac.compare_digest(credential, self._expected):
            if tenant is None:
                return _OPERATOR
            return Caller(parse_tenant(str(tenant)), CallerKind.OPERATOR)
        if credential.startswith(b"Bearer x."):
            named = verify_executor_credential(
                self._token, credential[7:].decode("utf-8", "replace")
            )
            if named is not None:
                return Caller(DEFAULT_TENANT, CallerKind.EXECUTOR, *named)
        if credential.startswith(_BEARER_TOKEN):
            found = self._holder(credential[7:].decode("utf-8", "replace"))
            if found is not None:
                return _for_tenant(*found, None if tenant is None else parse_tenant(str(tenant)))
        raise Unauthenticated("this call's credential is not one of this cluster's, or was revoked")

    def _holder(self, text: str) -> tuple[TokenId, TokenSpec] | None:
        parts = parse_token(text)
        if parts is None:
            return None
        token, secret = parts
        spec = self.find_token(token)
        # An unknown id takes as long as a wrong secret.
        is_right = (spec or _NOBODY).is_secret(secret)
        return (token, spec) if spec is not None and is_right else None


_BEARER_TOKEN = b"Bearer " + PREFIX.encode()
_NOBODY = TokenSpec(Role.USER, (), digest_of(secrets.token_urlsafe()))


def _no_tokens(_token: TokenId) -> TokenSpec | None:
    raise NotLeading("this session manager does not lead (yet), so it knows of no tokens")


def _for_tenant(token: TokenId, spec: TokenSpec, tenant: Tenant | None) -> Caller:
    if spec.role is Role.OPERATOR:
        return Caller(tenant or DEFAULT_TENANT, CallerKind.OPERATOR, token=token, spec=spec)
    if tenant is None:
        tenant = spec.tenants[0]
    elif not spec.allows(tenant):
        raise PermissionDenied(
            f"this token is not for tenant {tenant!r}; it is for {', '.join(spec.tenants)} "
            "and those below"
        )
    return Caller(tenant, CallerKind.USER, token=token, spec=spec)


_ANONYMOUS = Caller(DEFAULT_TENANT, CallerKind.ANONYMOUS)
_OPERATOR = Caller(DEFAULT_TENANT, CallerKind.OPERATOR)


def authorize(caller: Caller, method: str) -> None:
    """Raise unless this caller may call this method (``/package.Service/Method``).

    Raises:
        Unauthenticated: An anonymous caller would need a credential.
        PermissionDenied: The credential is for something else.
    """
    name = method[1:]
    service = name.partition("/")[0]
    allowed = ALLOWED.get(name) or ALLOWED.get(service, frozenset())
    if caller.kind in allowed:
        return
    what = name if name in ALLOWED else service
    if caller.kind is CallerKind.ANONYMOUS:
        raise Unauthenticated(f"anonymous callers may not call {what}; send a token")
    raise PermissionDenied(f"this credential ({caller.kind.value}) does not open {what}")


# --- executors' credentials --------------------------------------------------------------------


def executor_credential(token: str, executor: ExecutorId, incarnation: int) -> str:
    """Make the credential of one executor's one incarnation; it opens the executor channel only.

    It is derived from the cluster's token, so it outlives a restart of the session manager and
    needs no storage; whoever has it cannot get back to the token.
    """
    return f"x.{executor}.{incarnation}.{_signature(token, executor, incarnation)}"


def verify_executor_credential(token: str, credential: str) -> tuple[ExecutorId, int] | None:
    """Return the executor and incarnation that a credential names, or None if it is not ours."""
    head, dot, signature = credential.rpartition(".")
    head, second_dot, number = head.rpartition(".")
    if not (dot and second_dot and head.startswith("x.")):
        return None
    if not (number.isascii() and number.isdigit() and len(number) <= 20):
        return None
    executor, incarnation = ExecutorId(head[2:]), int(number)
    expected = _signature(token, executor, incarnation)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return None
    return executor, incarnation


def _signature(token: str, executor: ExecutorId, incarnation: int) -> str:
    key = hashlib.sha256(b"flame executor credential" + token.encode()).digest()
    return hmac.new(key, f"{executor}.{incarnation}".encode(), hashlib.sha256).hexdigest()


# --- the token's file and the address ----------------------------------------------------------


def read_or_create_token(path: Path) -> str:
    """Return the token in a file that only its user can read; generate both if there is none.

    Raises:
        InvalidConfiguration: The file is empty, can be read by others, or cannot be read or made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _create_token(path)
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read().decode("utf-8", "replace").strip()
    except OSError as error:
        raise InvalidConfiguration(f"token file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise InvalidConfiguration(
            f"token file {path} has mode {mode:04o}, so other users can read it; "
            f"run: chmod 600 {path}"
        )
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidConfiguration(
            f"token file {path} must hold one word of printable ASCII characters; "
            "delete it to have a token generated"
        )
    return text


def _create_token(path: Path) -> None:
    # Written aside and linked into place: whoever reads the file reads a whole token, and of two
    # processes that start at once one wins.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(draft, path)
    finally:
        draft.unlink()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. A name other than localhost cannot be known."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(host: str, *, tls: bool, anonymous: bool) -> None:
    """Refuse to open the cluster to the network unprotected.

    Raises:
        InvalidConfiguration: A public address with anonymous callers, or without TLS.
    """
    if is_loopback(host):
        return
    if anonymous:
        raise InvalidConfiguration(
            f"--anonymous lets everybody in who can reach {host}; "
            "it is allowed on loopback only (--listen 127.0.0.1:8080)"
        )
    if not tls:
        raise InvalidConfiguration(
            f"listening on {host} without TLS would send the token and all data readable over the "
            "network; give flame-session-manager --tls-cert and --tls-key (`flame up` is for one "
            "machine), or listen on loopback (--listen 127.0.0.1:8080)"
        )
