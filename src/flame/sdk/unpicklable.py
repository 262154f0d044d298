"""Which part of a service cannot be pickled, and where it is: ``Pricer.lock (threading.Lock)``."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType

TIME_LIMIT = 2.0  # seconds of looking; then what was found so far has to do

#: What the C types are called by those who write Python.
_NAMES = {
    "_thread.lock": "threading.Lock",
    "_thread.RLock": "threading.RLock",
    "_io.TextIOWrapper": "an open file",
    "_io.BufferedReader": "an open file",
    "_io.BufferedWriter": "an open file",
    "_io.FileIO": "an open file",
}

Part = tuple[str, object]


def find_unpicklable(service: object, pickle: Callable[[object], object]) -> str:
    """Name the innermost part that ``pickle`` refuses, by its path and its type.

    Args:
        service: An object that cannot be pickled.
        pickle: Raises for what cannot be.
    """
    deadline = time.monotonic() + TIME_LIMIT

    def fails(value: object) -> bool:
        try:
            pickle(value)
        except Exception:  # whatever an object's __reduce__ raises
            return True
        return False

    path, value = _label(service), service
    seen = {id(service)}
    while time.monotonic() < deadline:
        for where, part in _parts(path, value):
            if id(part) not in seen and fails(part):
                seen.add(id(part))
                path, value = where, part
                break
        else:
            break
    return f"{path} ({_type_name(value)})"


def _parts(path: str, value: object) -> Iterator[Part]:
    """What a value is made of, as pickling sees it."""
    if isinstance(value, MethodType):
        yield _label(value.__self__), value.__self__
    elif isinstance(value, FunctionType):
        yield from _variables(path, value)
    elif isinstance(value, functools.partial):
        yield _label(value.func), value.func
        for index, argument in enumerate(value.args):
            yield f"argument {index} of {path}", argument
        for name, argument in value.keywords.items():
            yield f"argument {name} of {path}", argument
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{path}[{key!r:.40}]", each
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, each in enumerate(value):
            yield f"{path}[{index}]", each
    elif isinstance(value, ModuleType):
        return
    else:
        attributes = vars(value) if hasattr(value, "__dict__") else _slots(value)
        for name, each in attributes.items():
            if not (isinstance(value, type) and name in ("__dict__", "__weakref__")):
                yield f"{path}.{name}", each
        if not isinstance(value, type):
            yield _label(type(value)), type(value)


def _variables(path: str, function: FunctionType) -> Iterator[Part]:
    """A function's own: what it closes over, the globals that it uses, its defaults."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield f"{path}'s variable {name}", cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f"{path}'s global {name}", function.__globals__[name]
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not parameter.empty:
            yield f"{path}'s default of {name}", parameter.default


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _slots(value: object) -> dict[str, object]:
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _label(value: object) -> str:
    name: str = getattr(value, "__qualname__", None) or type(value).__qualname__
    return name.replace("<locals>.", "").rpartition(".<")[2] or name


def _type_name(value: object) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return _NAMES.get(name, name)
