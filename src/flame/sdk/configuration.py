"""Where a client connects to, and with which credential.

What is not given to ``connect`` comes from the environment, then from the current context of
``flame.yaml``, and the token of a cluster on this machine from the file that ``flame up`` writes:

    FLAME_ENDPOINT (one address, or several with commas), FLAME_TOKEN, FLAME_TOKEN_FILE, FLAME_CA_FILE
    FLAME_CONFIG_DIR (~/.flame)/flame.yaml, with the released clients' keys:

        current-context: home
        contexts:
          - name: home
            cluster:
              endpoint: http://127.0.0.1:8080                # or a list of them
              tls: {ca_file: /etc/flame/ca.pem}
              token_file: /home/me/.flame/home.token     # ours
              tenant: research/credit-risk               # ours; also FLAME_TENANT
"""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.tenants import parse_tenant
from flame.runtime.directory import configuration_directory
from flame.wire import v1
from flame.wire.channels import Endpoint, bearer
from flame.wire.managers import parse_endpoints

_TOP_KEYS = frozenset({"current-context", "contexts"})
_CONTEXT_KEYS = frozenset({"name", "cluster", "cache", "package", "runner"})
_CLUSTER_KEYS = frozenset({"endpoint", "tls", "token_file", "tenant"})
_TLS_KEYS = frozenset({"ca_file"})


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client shows, and for which tenant; None: the first that the token is for."""

    token: str | None = None
    tenant: str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """As every call carries it."""
        tenant = ((v1.TENANT_KEY, self.tenant),) if self.tenant else ()
        return (*bearer(self.token), *tenant)


@dataclass(frozen=True, slots=True)
class ClientConfiguration:
    """A resolved configuration. No ``endpoints``: nothing is configured."""

    endpoints: tuple[Endpoint, ...] = ()
    token: str | None = None
    ca_file: str | None = None
    tenant: str | None = None

    @property
    def credential(self) -> Credential:
        """What calls carry."""
        return Credential(self.token, self.tenant)


@dataclass(frozen=True, slots=True)
class _Context:
    endpoints: tuple[Endpoint, ...] = ()
    ca_file: str | None = None
    token_file: str | None = None
    tenant: str | None = None


def resolve(
    endpoint: str | Sequence[str] | None = None,
    *,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    default_endpoint: str | None = None,
    tenant: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ClientConfiguration:
    """Combine arguments, environment and file; the first that says something counts.

    Raises:
        InvalidConfiguration: A value or the file is wrong; the text names it and what is allowed.
    """
    if token is not None and token_file is not None:
        raise InvalidConfiguration("token and token_file both name the credential; give one")
    directory = configuration_directory(environment)
    context = _Context()
    if config is not None:
        context = read_context(Path(config))
    elif (directory / "flame.yaml").exists():
        context = read_context(directory / "flame.yaml")
    given = endpoint or environment.get("FLAME_ENDPOINT")
    if given:
        where = parse_endpoints(given)
    elif context.endpoints:
        where = context.endpoints
    elif default_endpoint:
        where = parse_endpoints(default_endpoint)
    else:
        return ClientConfiguration()
    # The context's credential goes to the context's own cluster only.
    of_context = set(where) <= set(context.endpoints)
    ca_path = (
        ca_file or environment.get("FLAME_CA_FILE") or (context.ca_file if of_context else None)
    )
    return ClientConfiguration(
        where,
        _token(where, token, token_file, context if of_context else _Context(), environment),
        str(ca_path) if ca_path else None,
        _tenant(tenant, environment, context if of_context else _Context()),
    )


def _tenant(tenant: str | None, environment: Mapping[str, str], context: _Context) -> str | None:
    chosen = tenant or environment.get("FLAME_TENANT") or context.tenant
    if not chosen:
        return None
    try:
        return parse_tenant(chosen)
    except InvalidRequest as error:
        raise InvalidConfiguration(str(error)) from None


def _token(
    where: tuple[Endpoint, ...],
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    context: _Context,
    environment: Mapping[str, str],
) -> str | None:
    if token is not None:
        return token
    if token_file is not None:
        return read_token(Path(token_file), "token_file")
    if environment.get("FLAME_TOKEN"):
        return environment["FLAME_TOKEN"]
    if environment.get("FLAME_TOKEN_FILE"):
        return read_token(Path(environment["FLAME_TOKEN_FILE"]), "FLAME_TOKEN_FILE")
    if context.token_file:
        return read_token(Path(context.token_file).expanduser(), "token_file")
    local = configuration_directory(environment) / "token"
    if all(_is_loopback(endpoint.host) for endpoint in where) and local.exists():
        return read_token(local, "token_file")
    return None


def read_token(path: Path, what: str) -> str:
    """Read a token from its file.

    Raises:
        InvalidConfiguration: It cannot be read, or holds no token.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise InvalidConfiguration(f"{what} {path}: {reason}") from error
    if not token or not token.isprintable():
        raise InvalidConfiguration(f"{what} {path} holds no token; it must be one line of text")
    return token


def read_context(path: Path) -> _Context:
    """Read the current context of a ``flame.yaml``.

    Raises:
        InvalidConfiguration: The file is wrong; the text names it, the key and what is allowed.
    """
    import yaml  # only who has a file pays for it

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfiguration(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path} is not YAML: {error}") from error
    if document is None:
        return _Context()
    top = _mapping(path, "the file", document, _TOP_KEYS)
    contexts = top.get("contexts") or []
    if not isinstance(contexts, list):
        raise InvalidConfiguration(f"{path}: contexts must be a list of contexts")
    named: dict[str, Mapping[str, Any]] = {}
    for index, entry in enumerate(contexts):
        what = f"contexts[{index}]"
        context = _mapping(path, what, entry, _CONTEXT_KEYS)
        named[_text(path, f"{what}.name", context.get("name")) or ""] = context
    if not named:
        return _Context()
    current = _text(path, "current-context", top.get("current-context"))
    if current is None and len(named) == 1:
        current = next(iter(named))
    if current not in named:
        allowed = ", ".join(repr(name) for name in named)
        raise InvalidConfiguration(
            f"{path}: current-context is {current!r}; allowed are the contexts' names: {allowed}"
        )
    return _context(path, named[current])


def _context(path: Path, context: Mapping[str, Any]) -> _Context:
    what = f"context {context.get('name')!r}: cluster"
    cluster = _mapping(path, what, context.get("cluster") or {}, _CLUSTER_KEYS)
    tls = _mapping(path, f"{what}.tls", cluster.get("tls") or {}, _TLS_KEYS)
    given = cluster.get("endpoint")
    if not isinstance(given, list):
        given = _text(path, f"{what}.endpoint", given)
    endpoints: tuple[Endpoint, ...] = ()
    if given is not None:
        try:
            endpoints = parse_endpoints(given)
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"{path}: {what}.{error}") from None
    return _Context(
        endpoints,
        _text(path, f"{what}.tls.ca_file", tls.get("ca_file")),
        _text(path, f"{what}.token_file", cluster.get("token_file")),
        _text(path, f"{what}.tenant", cluster.get("tenant")),
    )


def _mapping(path: Path, what: str, value: object, allowed: frozenset[str]) -> Mapping[str, Any]:
    keys = ", ".join(sorted(allowed))
    if not isinstance(value, dict):
        raise InvalidConfiguration(f"{path}: {what} must be a mapping with the keys {keys}")
    for key in value:
        if key not in allowed:
            raise InvalidConfiguration(f"{path}: {what} has the key {key!r}; allowed are {keys}")
    return value


def _text(path: Path, what: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidConfiguration(f"{path}: {what} is {value!r}; it must be text")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
