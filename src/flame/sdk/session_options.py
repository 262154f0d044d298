"""What ``create_session`` and ``open_session`` are given, checked and turned into a specification."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from flame.model.errors import InvalidRequest
from flame.model.ids import MAX_NAME_LENGTH, check_name
from flame.model.labels import Labels, Preferences, check_labels, parse_labels, parse_preferences
from flame.model.resource_text import parse_resources
from flame.model.resources import UNIT, Resources
from flame.model.retries import check_retry_on
from flame.model.specs import (
    DEFAULT_MAX_ATTEMPTS,
    ApplicationSpec,
    Durability,
    SessionSpec,
    TaskLimits,
)
from flame.sdk.applications import application_of

#: Exceptions or their names, and codes.
RetryOn = Sequence[type[BaseException] | str | int]
#: How often a failure that ``retry_on`` names is tried again, unless it is said.
DEFAULT_RETRIES = 2

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The keyword arguments of a new session; see ``Client.create_session``."""

    common_data: bytes | None = None
    min_instances: int = 0
    max_instances: int | None = None
    batch_size: int = 1
    priority: int = 0
    resources: Resources | str | None = None
    durability: Durability | str = "durable"
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    task_timeout: float | None = None
    deadline: float | None = None
    retry_on_failure: int | None = None
    on_client_lost: float | None = None
    require: str | Mapping[str, str] | None = None
    prefer: str | Mapping[str, int] | None = None
    near: Sequence[str] = ()
    retry_on: RetryOn = ()
    standby: int | None = None


class SessionArguments(TypedDict, total=False):
    """The same, for methods that pass them on."""

    common_data: bytes | None
    min_instances: int
    max_instances: int | None
    batch_size: int
    priority: int
    resources: Resources | str | None
    durability: Durability | str
    max_attempts: int
    task_timeout: float | None
    deadline: float | None
    retry_on_failure: int | None
    on_client_lost: float | None
    require: str | Mapping[str, str] | None
    prefer: str | Mapping[str, int] | None
    near: Sequence[str]
    retry_on: RetryOn
    standby: int | None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made.

    Attributes:
        service: The application to register first, if there is one.
        is_name_made_up: Nobody else has, or looks for, a session of this name.
    """

    name: str
    spec: SessionSpec
    default_resources: bool
    service: ApplicationSpec | None
    is_name_made_up: bool = False


def new_session(application: object, name: str | None, options: SessionOptions) -> NewSession:
    """Check the arguments of a new session.

    Raises:
        InvalidRequest: One of them is not allowed; the text names it and what is.
    """
    service: ApplicationSpec | None = None
    if isinstance(application, str):
        application_name = check_name(application, "application")
    else:
        application_name, service = application_of(application)
    is_name_made_up = name is None
    if name is None:
        name = f"{application_name[: MAX_NAME_LENGTH - 9]}-{_random_text(8)}"
    return NewSession(
        check_name(name, "session"),
        _specification(application_name, options),
        options.resources is None,
        service,
        is_name_made_up,
    )


def _specification(application: str, options: SessionOptions) -> SessionSpec:
    data = options.common_data
    if data is not None and not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequest(f"common_data must be bytes or None, not {type(data).__name__}")
    resources = options.resources
    if isinstance(resources, str):
        resources = parse_resources(resources)
    _at_least("min_instances", options.min_instances, 0)
    _at_least("batch_size", options.batch_size, 1)
    _at_least("priority", options.priority, 0)
    _at_least("max_attempts", options.max_attempts, 1)
    retries = options.retry_on_failure
    if retries is None:
        retries = DEFAULT_RETRIES if options.retry_on else 0
    _at_least("retry_on_failure", retries, 0)
    if options.standby is not None:
        _at_least("standby", options.standby, 0)
    if options.max_instances is not None:
        _at_least("max_instances", options.max_instances, 1)
        if options.max_instances < options.min_instances:
            raise InvalidRequest(
                f"max_instances is {options.max_instances}, below min_instances, which is "
                f"{options.min_instances}"
            )
    for field in ("min_instances", "max_instances"):
        if (getattr(options, field) or 0) % options.batch_size:
            raise InvalidRequest(
                f"{field} is {getattr(options, field)}; it must be a multiple of batch_size, "
                f"which is {options.batch_size}: executors come in gangs of so many"
            )
    return SessionSpec(
        application=application,
        common_data=None if data is None else bytes(data),
        min_instances=options.min_instances,
        max_instances=options.max_instances,
        batch_size=options.batch_size,
        priority=options.priority,
        resources=UNIT if resources is None else resources,
        durability=_durability(options.durability),
        max_attempts=options.max_attempts,
        task_timeout_ms=milliseconds("task_timeout", options.task_timeout) or 0,
        deadline_ms=milliseconds("deadline", options.deadline) or 0,
        retry_on_failure=retries,
        client_lost_ms=milliseconds("on_client_lost", options.on_client_lost, least=0.0),
        require=_required(options.require),
        prefer=_preferred(options.prefer),
        near=_nodes(options.near),
        retry_on=check_retry_on(_kinds(options.retry_on), retries),
        standby=options.standby,
    )


def _required(given: str | Mapping[str, str] | None) -> Labels:
    if given is None or isinstance(given, str):
        return parse_labels(given or "", "require")
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"require is {given!r}; give 'zone=a' or {{'zone': 'a'}}")
    return check_labels(tuple(sorted((str(n), str(v)) for n, v in given.items())), "require")


def _preferred(given: str | Mapping[str, int] | None) -> Preferences:
    if given is None or isinstance(given, str):
        return parse_preferences(given or "")
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"prefer is {given!r}; give 'zone=a:2' or {{'zone=a': 2}}")
    return parse_preferences(",".join(f"{label}:{weight}" for label, weight in given.items()))


def _kinds(given: object) -> Iterator[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequest(f"retry_on is {given!r}; give a list: [ConnectionError, 75]")
    for kind in given:
        if isinstance(kind, type) and issubclass(kind, BaseException):
            yield f"{kind.__module__}.{kind.__qualname__}"
        elif isinstance(kind, str | int) and not isinstance(kind, bool):
            yield str(kind)
        else:
            raise InvalidRequest(
                f"retry_on has {kind!r}; give exceptions, their names, or codes: [ConnectionError, 75]"
            )


def _nodes(given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequest(f"near is {given!r}; give a list of node names")
    return tuple(dict.fromkeys(check_name(str(node), "near: a node") for node in given))


def task_limits(timeout: float | None, deadline: float | None) -> TaskLimits:
    """Check the limits of one task.

    Raises:
        InvalidRequest: One of them is no number of seconds.
    """
    return TaskLimits(
        milliseconds("timeout", timeout) or 0, milliseconds("deadline", deadline) or 0
    )


def milliseconds(what: str, seconds: object, least: float = 0.001) -> int | None:
    """Return seconds as whole milliseconds.

    Raises:
        InvalidRequest: It is no number of at least ``least``.
    """
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or not least <= seconds < 2**31:
        raise InvalidRequest(
            f"{what} is {seconds!r}; it must be a number of seconds from {least:g} on, or None"
        )
    return int(seconds * 1000)


def _durability(value: Durability | str) -> Durability:
    if isinstance(value, Durability):
        return value
    try:
        return Durability[value.upper()]
    except (KeyError, AttributeError):
        allowed = ", ".join(repr(each.name.lower()) for each in Durability)
        raise InvalidRequest(f"durability is {value!r}; allowed are {allowed}") from None


def _at_least(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least or value >= 2**32:
        raise InvalidRequest(f"{what} is {value!r}; it must be a whole number from {least} on")


def _random_text(length: int) -> str:
    # One number: a call of the system for each character takes as long as all the rest here.
    number = secrets.randbelow(len(_ALPHABET) ** length)
    characters = []
    for _ in range(length):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)
