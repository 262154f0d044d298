"""YAML read strictly: every value knows its line and its key, and says so when it is wrong.

    trace.yaml:12: cluster.nodes.big.count is -3; it must be a whole number from 1

A block is read key by key and then closed; a key that nobody asked for is an error, because a limit
that is misspelt is a limit that is not there.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from flame.model.errors import InvalidConfiguration, InvalidRequest

Read = TypeVar("Read")
Other = TypeVar("Other")

#: Numbers beyond this are slips of a finger, and would take for ever to simulate.
MOST = 1e12


class Value:
    """One value of the file.

    Attributes:
        key: Where it is, as ``cluster.nodes.big``.
    """

    def __init__(self, file: str, key: str, node: yaml.Node | None, parent: yaml.Node) -> None:
        self._file = file
        self.key = key
        self._node = node
        self._line = (node or parent).start_mark.line + 1

    @property
    def is_missing(self) -> bool:
        """Whether the file does not say it, or says nothing."""
        return self._node is None or self._node.tag == "tag:yaml.org,2002:null"

    @property
    def is_block(self) -> bool:
        """Whether it has keys of its own."""
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def wrong(self, allowed: str) -> InvalidConfiguration:
        """Return the error that says what is here and what may be."""
        return self.error(f"is {self._shown()}; it must be {allowed}")

    def error(self, what: str) -> InvalidConfiguration:
        """Return an error about this place."""
        return InvalidConfiguration(f"{self._file}:{self._line}: {self.key or 'the file'} {what}")

    def plain(self) -> Any:
        """Return a number, a text or a truth value; None: it is something else, or not there."""
        if not isinstance(self._node, yaml.ScalarNode):
            return None
        try:
            return yaml.SafeLoader("").construct_object(self._node)
        except (yaml.YAMLError, ValueError):
            return self._node.value

    def text(self) -> str:
        """Return a text that is not empty."""
        value = self.plain()
        if not isinstance(value, str) or not value.strip():
            raise self.wrong("a text")
        return value

    def flag(self) -> bool:
        """Return a truth value."""
        value = self.plain()
        if not isinstance(value, bool):
            raise self.wrong("true or false")
        return value

    def whole(self, least: int, most: int = int(MOST)) -> int:
        """Return a whole number between two others."""
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(f"a whole number {_between(least, most)}")
        return value

    def number(self, least: float = 0.0, *, above: bool = False, most: float = MOST) -> float:
        """Return a finite number from ``least`` on, or ``above`` it."""
        value = self.plain()
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not least <= value <= most:
            raise self.wrong(f"a number {_between(least, most, above=above)}")
        if above and value == least:
            raise self.wrong(f"a number {_between(least, most, above=above)}")
        return float(value)

    def one_of(self, allowed: tuple[str, ...]) -> str:
        """Return one of these texts."""
        value = self.plain()
        if value not in allowed:
            raise self.wrong(f"one of {', '.join(allowed)}")
        return str(value)

    def read_by(self, parse: Callable[[str], Read]) -> Read:
        """Return what ``parse`` makes of the text; its InvalidRequest gets the line and the key."""
        try:
            return parse(self.text())
        except InvalidConfiguration:
            raise
        except InvalidRequest as error:
            raise self.error(f"is wrong: {error}") from None

    def items(self) -> list["Value"]:
        """Return the values of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong("a list")
        return [
            Value(self._file, f"{self.key}[{index}]", node, self._node)
            for index, node in enumerate(self._node.value)
        ]

    def block(self) -> "Block":
        """Return the keys and values of a mapping."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("a mapping of keys to values")
        return Block(self._file, self, self._node)

    def _shown(self) -> str:
        if self.is_missing:
            return "missing"
        if self.is_block or self.is_list:
            return f"a {'mapping' if self.is_block else 'list'}"
        return f"{self.plain()!r:.60}"


class Block:
    """The keys of one mapping, each to be read once."""

    def __init__(self, file: str, value: Value, node: yaml.MappingNode) -> None:
        self.value = value
        self._file = file
        self._node = node
        self._values: dict[str, yaml.Node] = {}
        self._asked: dict[str, None] = {}
        for key, below in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "a key that is no text"
            if name in self._values:
                raise Value(file, self._key(name), key, node).error("is there twice")
            self._values[name] = below

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str) -> Value:
        """Return the value of a key, which may be missing."""
        self._asked[key] = None
        return Value(self._file, self._key(key), self._values.get(key), self._node)

    def get(self, key: str, read: Callable[[Value], Read], default: Other) -> Read | Other:
        """Return what ``read`` makes of the key's value, or the default if it is not there."""
        value = self.take(key)
        return default if value.is_missing else read(value)

    def each(self) -> Iterator[tuple[str, Value]]:
        """Yield every key with its value: keys of one's own choice."""
        for name in self._values:
            yield name, self.take(name)

    def close(self) -> None:
        """Say that all keys were read.

        Raises:
            InvalidConfiguration: There is another one.
        """
        for name, node in self._values.items():
            if name not in self._asked:
                raise Value(self._file, self._key(name), node, self._node).error(
                    f"is not known; allowed here are {', '.join(self._asked)}"
                )

    def _key(self, name: str) -> str:
        return f"{self.value.key}.{name}" if self.value.key else name


def read_file(path: Path | str) -> Block:
    """Return the top block of a YAML file.

    Raises:
        InvalidConfiguration: It cannot be read, or is no YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InvalidConfiguration(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"{path}: cannot be read: it is not text") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidConfiguration(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise InvalidConfiguration(f"{path}: is empty; it must say what the cluster is")
    return Value(str(path), "", node, node).block()


_RANGE = re.compile(r"\{(\d{1,6})\.\.(\d{1,6})\}")


def expand(name: str, value: Value) -> list[str]:
    """Return the names that ``team-{1..200}`` stands for, with leading zeros as in ``{001..200}``."""
    match = _RANGE.search(name)
    if match is None:
        return [name]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise value.error(f"counts backwards: {match[0]}")
    width = len(match[1]) if match[1].startswith("0") else 0
    return [
        f"{name[: match.start()]}{number:0{width}d}{name[match.end() :]}"
        for number in range(first, last + 1)
    ]


def _between(least: float, most: float, *, above: bool = False) -> str:
    low = f"above {least:g}" if above else f"from {least:g}"
    return low if most >= MOST else f"{low} to {most:.10g}"
