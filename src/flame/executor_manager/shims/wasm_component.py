"""Components of the world ``flame:task`` (docs/wit/task.wit) for the wasm shim.

    export invoke: func(input: list<u8>) -> result<list<u8>, string>;

wasmtime's Python binding makes an object of every byte of such a list, some microseconds each. Here the
list is built and read as the memory that it is: a kind and a value for each byte.
"""

import ctypes
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import component as components
from wasmtime.component._enter import enter_wasm

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable

EXPORT = "invoke"

_SIZE = ctypes.sizeof(ffi.wasmtime_component_val_t)
_VALUE = ffi.wasmtime_component_val_t.of.offset


class Linked:
    """A component that can be run, with WASI preview 2 and nothing else.

    Raises:
        ServiceUnusable: It exports no ``invoke``.
    """

    def __init__(
        self, engine: wasmtime.Engine, component: components.Component, path: Path
    ) -> None:
        self._component = component
        index = component.get_export_index(EXPORT)
        if index is None:
            raise ServiceUnusable(
                f"{path} exports no function {EXPORT}: it is no component of the world flame:task"
            )
        self._index = index
        self._linker = components.Linker(engine)
        self._linker.add_wasip2()

    def call(self, store: wasmtime.Store, data: bytes, limit: int) -> bytes:
        """Make an instance and call it once.

        Raises:
            ServiceFailure: It answered with an error, or with more than ``limit`` bytes.
            WasmtimeError: It trapped, or needs what is not there.
        """
        instance = self._linker.instantiate(store, self._component)
        function = instance.get_func(store, self._index)
        if function is None or not _is_task(function.type(store)):
            raise ServiceFailure(
                f"the component's {EXPORT} is not func(input: list<u8>) -> result<list<u8>, string>"
            )
        return _call(function, store, data, limit)


def _is_task(kind: Any) -> bool:
    lists = [kind for _, kind in kind.params]
    result = kind.result
    if isinstance(result, components.ResultType):
        lists.append(result.ok)
        return (
            len(lists) == 2
            and all(
                isinstance(each, components.ListType) and isinstance(each.element, components.U8)
                for each in lists
            )
            and isinstance(result.err, components.String)
        )
    return False


def _call(function: Any, store: wasmtime.Store, data: bytes, limit: int) -> bytes:
    argument = ffi.wasmtime_component_val_t()
    argument.kind = ffi.WASMTIME_COMPONENT_LIST.value
    ffi.wasmtime_component_vallist_new_uninit(ctypes.byref(argument.of.list), len(data))
    values = bytearray(len(data) * _SIZE)
    values[0::_SIZE] = bytes((ffi.WASMTIME_COMPONENT_U8.value,)) * len(data)
    values[_VALUE::_SIZE] = data
    ctypes.memmove(argument.of.list.data, bytes(values), len(values))
    answer = ffi.wasmtime_component_val_t()
    try:
        enter_wasm(
            lambda: ffi.wasmtime_component_func_call(
                ctypes.byref(function._func),
                store._context(),
                ctypes.byref(argument),
                1,
                ctypes.byref(answer),
                1,
            )
        )
        try:
            result = answer.of.result
            value = result.val.contents.of
            if not result.is_ok:
                text = ctypes.string_at(value.string.data, value.string.size)
                raise ServiceFailure(text.decode("utf-8", "replace"))
            if value.list.size > limit:
                raise ServiceFailure(
                    f"the output has {value.list.size} bytes; {limit} are allowed: return a "
                    "reference to large data instead of the data"
                )
            return ctypes.string_at(value.list.data, value.list.size * _SIZE)[_VALUE::_SIZE]
        finally:
            ffi.wasmtime_component_val_delete(ctypes.byref(answer))
            function.post_return(store)
    finally:
        ffi.wasmtime_component_val_delete(ctypes.byref(argument))
