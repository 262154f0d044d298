"""Who calls, and what that caller may do: decided in one place, deny by default.

    credential                    what it opens
    ────────────────────────────  ─────────────────────────────────────────────────────────
    the cluster's token           everything but the executor channel, for any tenant
    an executor's credential      the executor channel, as that executor and incarnation only
    none, with ``--anonymous``    Frontend, package upload, health, reflection; always as tenant ``default``
    none, or one nobody knows     nothing

The server asks before a handler is even looked up; a service that is not in the table is closed to
everybody. Users, roles and certificates will come in this place.
"""

import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from flame.model.errors import (
    InvalidConfiguration,
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
    EXECUTOR = "executor"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. ``executor`` and ``incarnation`` are an executor's own, else empty and 0."""

    tenant: Tenant
    kind: CallerKind
    executor: ExecutorId = ExecutorId("")
    incarnation: int = 0


_OPERATOR_ONLY = frozenset({CallerKind.OPERATOR})
_OPEN_TO_CLIENTS = frozenset({CallerKind.OPERATOR, CallerKind.ANONYMOUS})

#: Which callers may call a service. One that is not named here may be called by nobody.
ALLOWED: dict[str, frozenset[CallerKind]] = {
    "flame.v1.Frontend": _OPEN_TO_CLIENTS,
    "flame.v1.Backend": _OPERATOR_ONLY,
    "flame.channel.v1.TaskChannel": _OPERATOR_ONLY,
    "flame.channel.v1.NodeChannel": _OPERATOR_ONLY,
    "flame.channel.v1.ExecutorChannel": frozenset({CallerKind.EXECUTOR}),
    "flame.package.v1.PackageUpload": _OPEN_TO_CLIENTS,
    "flame.package.v1.PackageDownload": _OPERATOR_ONLY,
    "grpc.health.v1.Health": _OPEN_TO_CLIENTS,
    "grpc.reflection.v1alpha.ServerReflection": _OPEN_TO_CLIENTS,
}


def caller_of(context: Any) -> Caller:
    """Return who makes the call that a handler is serving."""
    caller: Caller = context.caller
    return caller


class Access:
    """Says who makes a call, or refuses it before any handler is looked up."""

    def __init__(self, token: str, *, anonymous: bool = False) -> None:
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
        raise Unauthenticated("this call's credential is not one of this cluster's")


_ANONYMOUS = Caller(DEFAULT_TENANT, CallerKind.ANONYMOUS)
_OPERATOR = Caller(DEFAULT_TENANT, CallerKind.OPERATOR)


def authorize(caller: Caller, method: str) -> None:
    """Raise unless this caller may call this method (``/package.Service/Method``).

    Raises:
        Unauthenticated: An anonymous caller would need a credential.
        PermissionDenied: The credential is for something else.
    """
    service = method[1:].partition("/")[0]
    if caller.kind in ALLOWED.get(service, ()):
        return
    if caller.kind is CallerKind.ANONYMOUS:
        raise Unauthenticated(f"anonymous callers may not call {service}; send a token")
    raise PermissionDenied(f"this credential ({caller.kind.value}) does not open {service}")


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
            "network; give --tls-cert and --tls-key, or listen on loopback "
            "(--listen 127.0.0.1:8080)"
        )
