"""Which failures of a service are worth another try: ``retry_on`` of a session.

A failure is of *kinds*, told by the executor beside its text: the qualified names of the exception's
class and of those it derives from (``mylib.Transient``, ``builtins.OSError``), or the code of a service
that is no Python class: a script's exit code (``75``) or signal (``SIGSEGV``), a status (``503``, ``UNAVAILABLE``).
"""

from collections.abc import Iterable, Sequence

from flame.model.errors import InvalidRequest

MAX_KINDS = 32
MAX_KIND_LENGTH = 256


def check_retry_on(kinds: Iterable[str], retries: int) -> tuple[str, ...]:
    """Return what a session asks for, each once.

    Raises:
        InvalidRequest: One can never match, there are too many, or no try is left for them.
    """
    found = tuple(dict.fromkeys(kinds))
    if len(found) > MAX_KINDS:
        raise InvalidRequest(f"retry_on names {len(found)} kinds; at most {MAX_KINDS} are allowed")
    for kind in found:
        if not 0 < len(kind) <= MAX_KIND_LENGTH or not kind.isprintable() or " " in kind:
            raise InvalidRequest(
                f"retry_on has {kind[:MAX_KIND_LENGTH]!r}; give the name of an exception "
                "(ConnectionError, mylib.Transient) or a code (75, SIGSEGV, 503)"
            )
    if found and not retries:
        raise InvalidRequest(
            "retry_on says which failures are tried again, and retry_on_failure is 0: "
            "say with it how often, or leave both out"
        )
    return found


def matches(retry_on: Sequence[str], kinds: Iterable[str]) -> bool:
    """Whether a failure of these kinds is tried again; with an empty ``retry_on`` any is.

    A name matches with its module, with the end of it, or bare.
    """
    return not retry_on or any(
        kind == wanted or kind.endswith(f".{wanted}") for kind in kinds for wanted in retry_on
    )


def kinds_of(error: type[BaseException]) -> tuple[str, ...]:
    """Return the names of an exception's class and of its bases, the most special first."""
    names = (f"{each.__module__}.{each.__qualname__}" for each in error.__mro__[:-1])
    return tuple(name[-MAX_KIND_LENGTH:] for name in names)[:MAX_KINDS]
