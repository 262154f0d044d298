"""Which adapter serves which kind of service.

The kinds of the API have theirs in this package. A package that is installed on a node adds one with a
class and one line, and applications ask for it with ``shim: Custom`` and the option ``kind``:

    [project.entry-points."flame.shims"]
    carrier-pigeon = "my_package.pigeons:PigeonShim"
"""

import importlib
import importlib.metadata
from collections.abc import Callable

from flame.executor_manager.shims import ServiceUnusable, Shim, ShimRequest
from flame.model.specs import ShimKind

GROUP = "flame.shims"
KIND = "kind"  # the option that names a custom shim

_PACKAGE = "flame.executor_manager.shims"

#: Listed under the same names in pyproject.toml. Looked up here, since reading the metadata of all
#: that is installed takes longer than the rest of a binding, and is wrong in a source tree.
BUILT_IN = {
    ShimKind.HOST: f"{_PACKAGE}.host:HostShim",
    ShimKind.WASM: f"{_PACKAGE}.wasm:WasmShim",
    ShimKind.PYTHON: f"{_PACKAGE}.python:PythonShim",
    ShimKind.GRPC: f"{_PACKAGE}.grpc:GrpcShim",
    ShimKind.HTTP: f"{_PACKAGE}.http:HttpShim",
    ShimKind.STDIO: f"{_PACKAGE}.stdio:stdio_shim",
    ShimKind.SHELL: f"{_PACKAGE}.shell:ShellShim",
    ShimKind.LOG: f"{_PACKAGE}.log:LogShim",
}

MakeShim = Callable[[ShimRequest], Shim]


def make_shim(request: ShimRequest) -> Shim:
    """Start a service.

    Raises:
        ServiceUnusable: There is no such kind here, or the service cannot be started.
    """
    return _find(request)(request)


def _find(request: ShimRequest) -> MakeShim:
    kind = request.application.shim
    if kind in BUILT_IN:
        module, _, attribute = BUILT_IN[kind].partition(":")
        found: MakeShim = getattr(importlib.import_module(module), attribute)
        return found
    name = dict(request.application.shim_options).get(KIND, "")
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in entries.select(name=name):
        return _load(entry)
    asked = f"{kind.name.capitalize()} with {KIND} {name!r}"
    known = sorted({kind.name.lower() for kind in BUILT_IN} | entries.names)
    raise ServiceUnusable(
        f"application {request.application_name!r} has shim {asked}; "
        f"this executor has {', '.join(known)}"
    )


def _load(entry: importlib.metadata.EntryPoint) -> MakeShim:
    try:
        found: MakeShim = entry.load()
    except (ImportError, AttributeError) as error:
        raise ServiceUnusable(
            f"shim {entry.name!r} is registered as {entry.value!r}, which cannot be loaded: {error}"
        ) from error
    return found
