"""What an application tells its shim besides its command: ``shim_options``, checked at the binding."""

from collections.abc import Collection, Mapping

from flame.executor_manager.shims import ServiceUnusable
from flame.model.errors import InvalidRequest
from flame.model.resource_text import parse_bytes


class Options:
    """Reads the options that a shim knows, then refuses those that are left.

        options = Options(application.shim_options)
        timeout = options.seconds("task_timeout")
        options.end()

    Raises:
        ServiceUnusable: From every method, with the option's name, what was seen, what is allowed.
    """

    def __init__(self, pairs: Collection[tuple[str, str]]) -> None:
        self._given: Mapping[str, str] = dict(pairs)
        self._known: list[str] = []

    def text(self, name: str, default: str) -> str:
        """A text of any kind."""
        self._known.append(name)
        return self._given.get(name, default)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of some words; the first is the default."""
        value = self.text(name, allowed[0])
        if value not in allowed:
            raise _wrong(name, value, f"one of {', '.join(allowed)}")
        return value

    def seconds(self, name: str) -> float | None:
        """A time above 0; None if it is not there."""
        value = self.text(name, "")
        if name not in self._given:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e7:
            raise _wrong(name, value, "a number of seconds above 0")
        return seconds

    def count(self, name: str) -> int | None:
        """A whole number above 0; None if it is not there."""
        value = self.text(name, "")
        if name not in self._given:
            return None
        if not (value.isascii() and value.isdigit() and 0 < int(value) < 2**63):
            raise _wrong(name, value, "a whole number above 0")
        return int(value)

    def size(self, name: str, default: int) -> int:
        """A number of bytes, like ``64m``."""
        value = self.text(name, "")
        if name not in self._given:
            return default
        try:
            return parse_bytes(value)
        except InvalidRequest as error:
            raise ServiceUnusable(f"shim_options.{name}: {error}") from error

    def end(self) -> None:
        """Refuse what nobody asked for: a misspelt option would be ignored in silence."""
        for name in self._given:
            if name not in self._known:
                allowed = ", ".join(sorted(self._known)) or "none"
                raise ServiceUnusable(
                    f"shim_options.{name} is not known to this shim; allowed are: {allowed}"
                )


def _wrong(name: str, value: str, allowed: str) -> ServiceUnusable:
    return ServiceUnusable(f"shim_options.{name} is {value!r}; it must be {allowed}")
