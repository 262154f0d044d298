"""The wasm shim: each task is a run of a WASI command module, from stdin to stdout, in a sandbox; or
a call of a component of the world ``flame:task``, bytes to bytes.

The command is the file (binary or text), its arguments and the application's environment are the
module's. It sees no network, and no file but those of its application's volumes, where they are on the node; what is
read-only stays so. Every task has an instance of its own, so nothing is left
behind in memory; compiled code is kept per node, by what it was compiled from.

Exit code 0 (or a return from ``_start``) is success; another code, a component's error or a trap fails
the task, with the end of stderr. Without an input stdin is empty. FLAME_SESSION_ID and FLAME_TASK_ID are set, what was
said of the task as for the shell shim, and FLAME_COMMON_DATA is common data, where that is text.

Options: ``fuel`` (instructions, about), ``task_timeout`` (seconds), ``memory`` (bytes; 256m, and 64m
for a component, whose answer takes 32 times its size while it is read). Needs the extra ``wasm``.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

try:
    import wasmtime
    from wasmtime.component import Component

    from flame.executor_manager.shims.wasm_component import Linked
except ImportError as error:
    _MISSING: str | None = str(error)
else:
    _MISSING = None

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, ShimRequest
from flame.executor_manager.shims.notes import variables_of
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.program import expand
from flame.model.service import SessionContext, TaskContext

MODULE_MEMORY = 256 * 1024 * 1024
COMPONENT_MEMORY = 64 * 1024 * 1024
LOOK = 0.01  # seconds between two looks whether a task may still run
STDERR_TAIL = 4096

_PLENTY = 2**63 - 1

#: How binary code begins; then the version and kind of what it is.
_MAGIC, _COMPONENT = b"\0asm", b"\r\0\1\0"


class WasmShim:
    """A module or component, compiled and linked.

    Raises:
        ServiceUnusable: There is none, or it cannot be compiled, or asks for what is not there.
    """

    def __init__(self, request: ShimRequest) -> None:
        if _MISSING is not None:
            raise ServiceUnusable(
                f"the wasm shim needs wasmtime on this node: install flame[wasm] ({_MISSING})"
            )
        options = Options(request.application.shim_options)
        self._fuel = options.count("fuel")
        memory = options.size("memory", 0)
        self._timeout = options.seconds("task_timeout")
        options.end()
        application = request.application
        own = {**os.environ, **dict(application.environments)}
        if not application.command:
            raise ServiceUnusable(
                f"application {request.application_name!r} has no command; "
                "an application of the wasm shim needs the path of a module"
            )
        path = Path(application.working_directory or request.assignment.directory)
        path /= expand(application.command, own)
        self._limit = request.assignment.max_output_bytes
        self._arguments = [path.name, *(expand(text, own) for text in application.arguments)]
        self._environment = dict(application.environments)
        self._directories = [
            (self._environment[volume.variable], volume.writable) for volume in application.volumes
        ]
        self._engine = _engine()
        # Beside the executors' directories, so that all of the node's have it.
        place = Path(request.assignment.directory)
        cache = (place.parent if os.access(place.parent, os.W_OK) else place) / "wasm-cache"
        code = _compiled(self._engine, path, cache)
        self._linked: Linked | wasmtime.InstancePre
        if isinstance(code, Component):
            self._linked = Linked(self._engine, code, path)
            self._memory = memory or COMPONENT_MEMORY
        else:
            self._linked = _command(self._engine, code, path)
            self._memory = memory or MODULE_MEMORY
        self._watch = _Watch(self._engine)

    def enter(self, session: SessionContext) -> None:
        self._environment["FLAME_SESSION_ID"] = session.session_id
        if session.common_data is not None:
            try:
                text = session.common_data.decode()
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text:
                raise ServiceFailure(
                    "the common data is not text; a module gets it as an environment variable"
                )
            self._environment["FLAME_COMMON_DATA"] = text

    def invoke(self, context: TaskContext) -> bytes:
        """Run the module; see :class:`flame.executor_manager.shims.Shim`."""
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=self._memory)
        store.set_fuel(_PLENTY if self._fuel is None else self._fuel)
        store.set_epoch_deadline(1)
        out, err = _Output(self._limit), _Output(None)
        stdin = os.memfd_create("flame-stdin", os.MFD_CLOEXEC)
        try:
            with open(stdin, "wb", closefd=False) as file:
                file.write(context.input or b"")
            wasi = wasmtime.WasiConfig()
            wasi.argv = self._arguments
            wasi.env = {**self._environment, **variables_of(context)}.items()
            for directory, writable in self._directories:
                wasi.preopen_dir(directory, directory, writable)
            wasi.stdin_file = f"/proc/self/fd/{stdin}"
            wasi.stdout_custom = out.write
            wasi.stderr_custom = err.write
            store.set_wasi(wasi)
            with self._watch.over(context, self._timeout) as run:
                cause = self._run(store, context.input or b"", out)
        finally:
            os.close(stdin)
            store.close()
        if out.overflowed:
            cause = (
                f"the output has more than {self._limit} bytes, which are allowed: return a "
                "reference to large data instead of the data"
            )
        elif run.ended_because is not None:
            cause = run.ended_because
        if cause is not None:
            said = err.data().decode("utf-8", "replace").strip()
            raise ServiceFailure(cause + (f"; its stderr: {said}" if said else ""))
        return out.data()

    def leave(self) -> None:
        """Nobody to tell: every instance has ended with its task."""

    def close(self) -> None:
        """End the watch."""
        self._watch.close()

    def _run(self, store: "wasmtime.Store", data: bytes, out: "_Output") -> str | None:
        """Run a module's ``_start``, or call a component; returns why it failed."""
        try:
            if isinstance(self._linked, Linked):
                out.replace(self._linked.call(store, data, self._limit))
            else:
                start = self._linked.instantiate(store).exports(store)["_start"]
                cast(wasmtime.Func, start)(store)
        except ServiceFailure as error:
            return str(error)
        except wasmtime.ExitTrap as error:
            return None if error.code == 0 else f"the module exited with code {error.code}"
        except wasmtime.Trap as error:
            if self._fuel is not None and error.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
                return f"the module used up its fuel of {self._fuel}"
            return f"the module trapped: {_brief(error)}"
        except wasmtime.WasmtimeError as error:
            text = _brief(error)
            if self._fuel is not None and "all fuel consumed" in text:  # of a component
                return f"the module used up its fuel of {self._fuel}"
            did = "trapped" if "wasm trap" in text else "could not run"
            return f"the module {did}: {text}"
        return None


class _Output:
    """What a module writes: up to a limit and no more, or the end of it."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self.overflowed = False

    def write(self, data: bytes) -> int:
        self._size += len(data)
        if self._limit is None:
            self._chunks = [(b"".join(self._chunks) + data)[-STDERR_TAIL:]]
        elif self._size > self._limit:
            self.overflowed = True
            return -errno.EFBIG  # the module gets an error; what it makes of it does not count
        else:
            self._chunks.append(data)
        return len(data)

    def replace(self, data: bytes) -> None:
        """A component answers with what it returns, not with what it prints."""
        self._chunks = [data]
        self.overflowed = False

    def data(self) -> bytes:
        return b"".join(self._chunks)


class _Run:
    """One task under the watch."""

    def __init__(self, context: TaskContext, timeout: float | None) -> None:
        self._context = context
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.ended_because: str | None = None

    def look(self) -> bool:
        """Whether the task is to be ended."""
        if self._context.cancelled:
            self.ended_because = "the task was cancelled, and its module ended"
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.ended_because = f"the task took longer than {self._timeout:g} s"
        return self.ended_because is not None


class _Watch:
    """A thread that ends runs: they trap when the engine's epoch changes."""

    def __init__(self, engine: "wasmtime.Engine") -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._run: _Run | None = None
        self._closed = False
        threading.Thread(target=self._look, name="wasm-watch", daemon=True).start()

    @contextlib.contextmanager
    def over(self, context: TaskContext, timeout: float | None) -> Iterator[_Run]:
        run = _Run(context, timeout)
        with self._changed:
            self._run = run
            self._changed.notify()
        try:
            yield run
        finally:
            with self._changed:
                self._run = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _look(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(None if self._run is None else LOOK)
                run = self._run
                if run is not None and run.look():
                    self._engine.increment_epoch()
                    self._run = None


def _engine() -> "wasmtime.Engine":
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    return wasmtime.Engine(config)


def _command(
    engine: "wasmtime.Engine", module: "wasmtime.Module", path: Path
) -> "wasmtime.InstancePre":
    """Link a WASI command module."""
    exports = {export.name: export.type for export in module.exports}
    if not isinstance(exports.get("_start"), wasmtime.FuncType):
        raise ServiceUnusable(f"{path} exports no function _start: it is not a WASI command module")
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    try:
        return linker.instantiate_pre(module)
    except wasmtime.WasmtimeError as error:
        raise ServiceUnusable(f"{path} cannot be linked with WASI: {error}") from error


def _compiled(engine: "wasmtime.Engine", path: Path, cache: Path) -> "wasmtime.Module | Component":
    """Return the compiled code of a module or component, from the cache if it is there.

    The cache is in the node's own directory, which only its user may write to: code in there is run
    as it is. A file that cannot be used is replaced.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ServiceUnusable(f"module {str(path)!r} cannot be read: {error.strerror}") from error
    try:
        binary = source if source.startswith(_MAGIC) else bytes(wasmtime.wat2wasm(source))
    except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
        raise ServiceUnusable(f"{path} is not a module that can be run: {_brief(error)}") from error
    kind: type[wasmtime.Module | Component]
    kind = Component if binary[4:8] == _COMPONENT else wasmtime.Module
    version = f"{importlib.metadata.version('wasmtime')}-{os.uname().machine}"
    compiled = cache / f"{hashlib.sha256(source).hexdigest()}-{version}"
    with contextlib.suppress(OSError, wasmtime.WasmtimeError):
        return kind.deserialize(engine, compiled.read_bytes())
    try:
        code = kind(engine, binary)
    except wasmtime.WasmtimeError as error:
        raise ServiceUnusable(f"{path} is not a module that can be run: {_brief(error)}") from error
    with contextlib.suppress(OSError):  # a full disk costs time, not the task
        cache.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            file.write(code.serialize())
        os.replace(file.name, compiled)
    return code


def _brief(error: Exception) -> str:
    """Return what is wrong, without the stack of the module's frames."""
    text = str(error)
    causes = text.rpartition("Caused by:")[2] or text
    return "; ".join(re.sub(r"^\s*\d+: ", "", line).strip() for line in causes.strip().splitlines())
