"""What the tasks of ``flmexec`` differ in: their items, and where those stand in the script.

    {}  the item      {.}  without its extension      {/}  its last part      {//}  its directory
    {/.}  its last part without extension             {#}  the task's number

In a shell script each is replaced by the text, quoted; ``$1`` is the item too. A Python script, where
braces have a meaning of their own, finds the item in ``sys.argv[1]``.
"""

import os.path
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from flame.model.errors import InvalidRequest

#: Not ``${#}`` and ``${}``, which are the shell's.
_PLACE = re.compile(r"(?<!\$)\{(#|/?\.|//?|)\}")
_ARGUMENT = re.compile(r"\$[1@*]|\$\{[1@*]")

_READ: Mapping[str, Callable[[str], str]] = {
    "": str,
    ".": lambda item: os.path.splitext(item)[0],
    "/": os.path.basename,
    "//": lambda item: os.path.dirname(item) or ".",
    "/.": lambda item: os.path.splitext(os.path.basename(item))[0],
}


def has_places(code: str) -> bool:
    """Whether a script says where its item goes."""
    return _PLACE.search(code) is not None


def with_place(code: str) -> str:
    """A shell script that has a place for its item: a command of one line gets it at its end."""
    if has_places(code) or _ARGUMENT.search(code) or "\n" in code.strip():
        return code
    return f"{code.rstrip()} {{}}"


def fill(code: str, item: str, number: int) -> str:
    """The shell script of one item."""

    def text(place: re.Match[str]) -> str:
        return str(number) if place[1] == "#" else shlex.quote(_READ[place[1]](item))

    return _PLACE.sub(text, code)


def numbered(code: str, number: int) -> str:
    """The shell script of a task that has no item: only its number has a place in it."""
    return _PLACE.sub(lambda place: str(number) if place[1] == "#" else place[0], code)


def read_items(name: str, *, null: bool) -> Iterator[str]:
    """Yield the items of a file (``-``: stdin), one a line, or ended by NUL; empty ones are none.

    Raises:
        InvalidRequest: It cannot be read, or is no text.
    """
    try:
        # Not sys.stdin: Python wants its lock at the end, which a thread that still reads has.
        file = open(0, "rb", closefd=False) if name == "-" else open(name, "rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidRequest(f"cannot read {name}: {error.strerror}") from error
    with file:
        for number, line in enumerate(_pieces(file, b"\0") if null else file, start=1):
            try:
                item = line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InvalidRequest(f"item {number} of {name} is no UTF-8 text") from error
            if item:
                yield item


def _pieces(file: BinaryIO, end: bytes) -> Iterator[bytes]:
    rest = b""
    while data := file.read(65_536):
        *whole, rest = (rest + data).split(end)
        yield from whole
    yield rest
