"""Application files: what ``flmctl register`` and ``flmctl update`` read.

    metadata:
      name: pi
    spec:
      shim: Host
      command: ${FLAME_HOME}/bin/pi-service
      arguments: [--quiet]
      environments:
        SEED: "1"

One file may hold several documents, separated by ``---``. An error names the file, the document,
the key and what is allowed.
"""

import base64
import binascii
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.model.volumes import Volume, check_volumes

SHIMS = {kind.name.lower(): kind for kind in ShimKind if kind is not ShimKind.UNSPECIFIED}

_TEXTS = (
    "description",
    "image",
    "command",
    "working_directory",
    "url",
    "installer",
    "entry_point",
)
_NUMBERS = ("max_instances", "delay_release", "standby")
_SPEC_KEYS = (
    "shim",
    "shim_options",
    *_TEXTS,
    *_NUMBERS,
    "labels",
    "arguments",
    "environments",
    "reusable",
    "preload",
    "sandbox",
    "schema",
    "pickled_service",
    "pickled_with",
    "local_modules",
    "volumes",
)
_SCHEMA_KEYS = ("input", "output", "common_data")


def read_applications(path: str) -> list[tuple[str, ApplicationSpec]]:
    """Read the name and specification of each application in a file (``-``: stdin).

    Raises:
        InvalidConfiguration: The file cannot be read, or says something that is not allowed.
    """
    import yaml  # only who has a file pays for it

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidConfiguration(f"{path}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"{path}: is not YAML: {error}") from error
    if not documents:
        raise InvalidConfiguration(f"{path}: holds no application (metadata.name and spec)")
    return [
        _application(document, path if len(documents) == 1 else f"{path}, document {number}")
        for number, document in enumerate(documents, start=1)
    ]


def _application(document: Any, place: str) -> tuple[str, ApplicationSpec]:
    # `status` is what `flmctl view -o yaml` adds; it says nothing about what is wanted.
    top = _mapping(document, place, "the document", ("metadata", "spec", "status"))
    metadata = _mapping(top.get("metadata"), place, "metadata", ("name",))
    name = _text(metadata, "name", place, "metadata")
    if not name:
        raise InvalidConfiguration(f"{place}: metadata.name is missing")
    spec = _mapping(top.get("spec"), place, "spec", _SPEC_KEYS)
    schema = _mapping(spec.get("schema") or {}, place, "spec.schema", _SCHEMA_KEYS)
    values: dict[str, Any] = {key: _text(spec, key, place) for key in _TEXTS}
    values["entry_point"] = values["entry_point"] or ""
    values |= {key: _number(spec, key, place) for key in _NUMBERS}
    values |= {f"schema_{key}": _text(schema, key, place, "spec.schema") for key in _SCHEMA_KEYS}
    return name, ApplicationSpec(
        **values,
        has_schema="schema" in spec,
        shim=_shim(spec, place),
        labels=_texts(spec, "labels", place),
        arguments=_texts(spec, "arguments", place),
        environments=_pairs(spec, "environments", place),
        shim_options=_pairs(spec, "shim_options", place),
        reusable=_flag(spec, "reusable", place),
        preload=_flag(spec, "preload", place),
        sandbox=_sandbox(spec, place),
        pickled_service=_bytes(spec, "pickled_service", place),
        pickled_with=_text(spec, "pickled_with", place) or "",
        local_modules=_bytes(spec, "local_modules", place),
        volumes=_volumes(spec, place),
    )


def _shim(spec: Mapping[str, Any], place: str) -> ShimKind:
    value = spec.get("shim")
    if value is None:
        return ShimKind.PYTHON if spec.get("entry_point") else ShimKind.HOST
    if not isinstance(value, str) or value.lower() not in SHIMS:
        allowed = ", ".join(name.capitalize() for name in SHIMS)
        raise _wrong(place, "spec.shim", value, f"one of {allowed}")
    return SHIMS[value.lower()]


def _sandbox(spec: Mapping[str, Any], place: str) -> Sandbox:
    value = spec.get("sandbox") or ""
    if value not in list(Sandbox):
        raise _wrong(place, "spec.sandbox", value, "strict (no network) or network")
    return Sandbox(value)


def _volumes(spec: Mapping[str, Any], place: str) -> tuple[Volume, ...]:
    value = spec.get("volumes") or []
    if not isinstance(value, list):
        raise _wrong(place, "spec.volumes", value, "a list of mappings with name, path and mode")
    found: list[Volume] = []
    for number, item in enumerate(value):
        key = f"spec.volumes[{number}]"
        volume = _mapping(item, place, key, ("name", "path", "mode"))
        mode = volume.get("mode", "ro")
        if mode not in ("ro", "rw"):
            raise _wrong(place, f"{key}.mode", mode, "ro or rw")
        name, path = (_text(volume, text, place, key) or "" for text in ("name", "path"))
        found.append(Volume(name, path, mode == "rw"))
    try:
        return check_volumes(found)
    except InvalidRequest as error:
        raise InvalidConfiguration(f"{place}: spec.{error}") from None


def _pairs(spec: Mapping[str, Any], name: str, place: str) -> tuple[tuple[str, str], ...]:
    value = spec.get(name) or {}
    if isinstance(value, list) and all(
        isinstance(item, dict) and set(item) == {"name", "value"} for item in value
    ):
        value = {item["name"]: item["value"] for item in value}
    if not isinstance(value, dict):
        raise _wrong(place, f"spec.{name}", value, "a mapping of names to values")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise _wrong(place, f"spec.{name}.{key}", text, "a text (put it in quotes)")
    return tuple(value.items())


def _mapping(value: Any, place: str, key: str, allowed: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, key, value, f"a mapping with the keys {', '.join(allowed)}")
    for found in value:
        if found not in allowed:
            raise InvalidConfiguration(
                f"{place}: {key} has the key {found!r}; allowed are {', '.join(allowed)}"
            )
    return value


def _text(values: Mapping[str, Any], key: str, place: str, parent: str = "spec") -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(place, f"{parent}.{key}", value, "a text")
    return value


def _texts(values: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    value = values.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(place, f"spec.{key}", value, "a list of texts")
    return tuple(value)


def _number(values: Mapping[str, Any], key: str, place: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise _wrong(place, f"spec.{key}", value, f"a whole number from 0 to {2**32 - 1}")
    return value


def _flag(values: Mapping[str, Any], key: str, place: str) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(place, f"spec.{key}", value, "true or false")
    return value


def _bytes(values: Mapping[str, Any], key: str, place: str) -> bytes:
    try:
        return base64.b64decode(_text(values, key, place) or "", validate=True)
    except binascii.Error as error:
        raise _wrong(place, f"spec.{key}", values[key], "base64") from error


def _wrong(place: str, key: str, seen: Any, allowed: str) -> InvalidConfiguration:
    shown = "missing" if seen is None else f"{seen!r:.60}"
    return InvalidConfiguration(f"{place}: {key} is {shown}; it must be {allowed}")
