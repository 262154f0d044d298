"""From a service object to an application: what ``create_session(my_function)`` registers.

The service travels as a cloudpickle, which only executors read. Its own module goes along in that if it
is not installed, and other local modules beside it (``local_modules``): a script and the files next
to it work on another machine too. The name has a hash of the content, so the same service is the same
application, and another one never is.
"""

import inspect
import sys
import threading
from types import ModuleType
from typing import Any

from flame.model.errors import InvalidRequest
from flame.model.resources import format_bytes
from flame.model.service import FlameService
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES, ApplicationSpec, ShimKind
from flame.model.unnamed import content_name
from flame.sdk.local_modules import is_installed, local_modules, names_in
from flame.sdk.unpicklable import find_unpicklable

_pickling = threading.Lock()


def application_of(service: object) -> tuple[str, ApplicationSpec]:
    """Return the name and specification of the application that runs a service.

    Raises:
        InvalidRequest: It is neither a function nor a FlameService, or cannot be pickled.
    """
    if not (callable(service) or isinstance(service, FlameService)):
        raise InvalidRequest(
            f"{service!r} is a {type(service).__name__}; a session runs a registered application "
            "(its name), a function of bytes, or a FlameService (class or object)"
        )
    if isinstance(service, type) and not issubclass(service, FlameService):
        raise InvalidRequest(f"class {service.__qualname__} is not derived from flame.FlameService")
    own = sys.modules.get(getattr(service, "__module__", None) or "")
    by_value = own is not None and own.__name__ != "__main__" and not is_installed(own)
    pickled = _pickle(service, own if by_value else None)
    if by_value and "__main__" in names_in(pickled):
        # Code of the script that, say, a decorator of its own wraps: they refer to each other by name.
        pickled = _pickle(service, None)
    modules = local_modules(pickled, own)
    if len(pickled) + len(modules) > DEFAULT_MAX_INPUT_BYTES:
        raise InvalidRequest(
            f"{service!r} has {format_bytes(len(pickled) + len(modules))} as a pickle; at most "
            f"{format_bytes(DEFAULT_MAX_INPUT_BYTES)} are allowed. Load large data in "
            "on_session_enter, or deploy a package with it (flmctl deploy)"
        )
    named: Any = service if hasattr(service, "__qualname__") else type(service)
    label = named.__qualname__.replace("<locals>.", "").strip("<>")
    name = content_name(label, pickled, modules)
    text = inspect.getdoc(service) or ""
    description = text.splitlines()[0] if text and isinstance(service, type | object) else None
    return name, ApplicationSpec(
        shim=ShimKind.PYTHON,
        description=description,
        pickled_service=pickled,
        pickled_with=f"{sys.version_info.major}.{sys.version_info.minor}",
        local_modules=modules,
    )


def _pickle(service: object, by_value: ModuleType | None) -> bytes:
    """Return the service as bytes, with what of one module it needs."""
    import cloudpickle  # only who sends a service pays for it

    with _pickling:
        if by_value is not None:
            cloudpickle.register_pickle_by_value(by_value)
        try:
            pickled: bytes = cloudpickle.dumps(service)
        except Exception as error:
            # Whatever an object's __reduce__ raises, the call cannot succeed as written.
            raise InvalidRequest(
                f"{find_unpicklable(service, cloudpickle.dumps)} cannot be pickled, so "
                f"{service!r} cannot be sent to executors: {error}. What belongs to this process "
                "(locks, open files, connections) is to be created in on_session_enter"
            ) from error
        finally:
            if by_value is not None:
                cloudpickle.unregister_pickle_by_value(by_value)
    return pickled
