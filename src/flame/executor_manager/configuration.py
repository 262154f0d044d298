"""Where an executor manager finds its session manager: options, environment, flame-cluster.yaml."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.labels import check_labels, parse_labels
from flame.model.resource_text import parse_amounts
from flame.runtime.directory import configuration_directory
from flame.wire.channels import Endpoint
from flame.wire.managers import parse_endpoints

DEFAULT_ENDPOINT = "http://127.0.0.1:8080"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Access:
    """The session managers' addresses and what opens them."""

    endpoints: tuple[Endpoint, ...]
    token: str | None
    ca_file: str | None


def find_access(
    endpoint: str | None, token_file: str | None, ca_file: str | None, config: str | None
) -> Access:
    """Put together options (first), environment, and the configuration file (last).

    A token comes from ``token_file``, FLAME_TOKEN, FLAME_TOKEN_FILE, or, for a session manager on
    this machine, from where ``flame up`` writes it.

    Raises:
        InvalidConfiguration: A file cannot be read or has a value that is not allowed.
    """
    cluster = read_cluster(config) if config is not None else {}
    tls = _section(cluster, "tls", config)
    addresses = parse_endpoints(
        endpoint
        or os.environ.get("FLAME_ENDPOINT")
        or _texts(cluster, "endpoint", config)
        or DEFAULT_ENDPOINT
    )
    ca_file = ca_file or os.environ.get("FLAME_CA_FILE") or _text(tls, "ca_file", config)
    return Access(addresses, _find_token(token_file, addresses), ca_file)


def find_offer(
    labels: Sequence[str], amounts: Sequence[str], config: str | None
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the labels and the named amounts (in the units of ``Resources``) that the node is said
    to have: those of the file's ``node`` section, and over them those of the options.

    Raises:
        InvalidConfiguration: A label or amount is malformed or there twice; the text names it.
    """
    node = _section(_read(config), "node", config, "") if config is not None else {}
    unknown = sorted(set(node) - {"labels", "resources", "volumes"})
    if unknown:
        raise InvalidConfiguration(
            f"{config}: node.{unknown[0]} is unknown; allowed are labels, resources and volumes"
        )
    try:
        written = _section(node, "labels", config, "node.")
        for name, value in written.items():
            check_labels(((str(name), str(value)),), f"{config}: node.labels")
        found = {str(name): str(value) for name, value in written.items()}
        texts = (_text(node, "resources", config), ",".join(amounts))
        offered: dict[str, int] = {}
        for text in filter(None, texts):
            offered |= parse_amounts(text)
        found |= dict(parse_labels(",".join(labels), "--label"))
    except InvalidRequest as error:
        raise InvalidConfiguration(str(error)) from None
    return found, offered


def find_volumes(options: Sequence[str], config: str | None) -> tuple[str, ...]:
    """Return what is allowed as volumes: by the file's ``node`` section, and by options.

    Raises:
        InvalidConfiguration: The file has no list of texts there.
    """
    node = _section(_read(config), "node", config, "") if config is not None else {}
    written = node.get("volumes") or []
    if not isinstance(written, list) or not all(isinstance(text, str) for text in written):
        raise InvalidConfiguration(
            f"{config}: node.volumes is {written!r}; a list of paths is needed, each with ':ro' or "
            "':rw' behind it or nothing"
        )
    return (*written, *options)


def read_cluster(path: str) -> dict[str, Any]:
    """Return the ``cluster`` section of a flame-cluster.yaml, which may have a ``node`` section alone.

    Raises:
        InvalidConfiguration: It cannot be read, is no YAML, or has neither section.
    """
    content = _read(path)
    cluster = content.get("cluster")
    if cluster is None and "node" in content:
        return {}
    if not isinstance(cluster, dict):
        raise InvalidConfiguration(f"{path}: a mapping with the key 'cluster' is needed")
    found: dict[str, Any] = cluster
    return found


def _read(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InvalidConfiguration(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidConfiguration(f"{path}: a mapping with the key 'cluster' is needed")
    return content


def _section(
    content: dict[str, Any], key: str, path: str | None, above: str = "cluster."
) -> dict[str, Any]:
    section = content.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise InvalidConfiguration(f"{path}: {above}{key} is {section!r}; a mapping is needed")
    return section


def _text(section: dict[str, Any], key: str, path: str | None) -> str | None:
    value = section.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidConfiguration(f"{path}: {key} is {value!r}; a text is needed")
    return value


def _texts(section: dict[str, Any], key: str, path: str | None) -> str | list[str] | None:
    value = section.get(key)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    return _text(section, key, path)


def _find_token(token_file: str | None, endpoints: tuple[Endpoint, ...]) -> str | None:
    if token_file is None:
        token = os.environ.get("FLAME_TOKEN")
        if token:
            return token.strip()
        token_file = os.environ.get("FLAME_TOKEN_FILE")
    if token_file is None:
        local = configuration_directory() / "token"
        ours = all(endpoint.host in LOOPBACK for endpoint in endpoints)
        if not ours or not local.exists():
            return None
        token_file = str(local)
    try:
        token = Path(token_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"token file {token_file} cannot be read: {error}") from error
    if not token:
        raise InvalidConfiguration(f"token file {token_file} is empty; it must hold the token")
    return token
