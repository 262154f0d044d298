"""From a service object to an application: what ``create_session(my_function)`` registers.

The service travels as a cloudpickle, which only executors read. Its module goes along if it is not
installed: a function in a script next to the caller works on another machine too. The name has a
hash of the content, so the same service is the same application, and another one never is.
"""

import hashlib
import inspect
import os
import sys
import sysconfig
import threading
from types import ModuleType
from typing import Any

from flame.model.errors import InvalidRequest
from flame.model.service import FlameService
from flame.model.specs import ApplicationSpec, ShimKind

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
    pickled = _pickle(service)
    named: Any = service if hasattr(service, "__qualname__") else type(service)
    label = named.__qualname__.replace("<locals>.", "").strip("<>")
    name = f"{label[:80]}-{hashlib.sha256(pickled).hexdigest()[:12]}"
    text = inspect.getdoc(service) or ""
    description = text.splitlines()[0] if text and isinstance(service, type | object) else None
    return name, ApplicationSpec(
        shim=ShimKind.PYTHON, description=description, pickled_service=pickled
    )


def _pickle(service: object) -> bytes:
    import cloudpickle  # only who sends a service pays for it

    module = sys.modules.get(getattr(service, "__module__", None) or "")
    by_value = module is not None and module.__name__ != "__main__" and not _is_installed(module)
    with _pickling:
        if by_value:
            cloudpickle.register_pickle_by_value(module)
        try:
            pickled: bytes = cloudpickle.dumps(service)
        except Exception as error:
            # Whatever an object's __reduce__ raises, the call cannot succeed as written.
            raise InvalidRequest(
                f"{service!r} cannot be sent to executors: {error}. A service must not hold what "
                "belongs to this process (locks, open files, connections); make such things in "
                "on_session_enter"
            ) from error
        finally:
            if by_value:
                cloudpickle.unregister_pickle_by_value(module)
    return pickled


def _is_installed(module: ModuleType) -> bool:
    """Whether executors can be expected to have the module: a package, or Flame itself."""
    if module.__name__.split(".")[0] == "flame":
        return True
    file = getattr(module, "__file__", None)
    if file is None:
        return True  # built in
    roots = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(os.path.abspath(file).startswith(root + os.sep) for root in roots if root)
