"""The Backend service of released versions, which this project does not speak.

Its twelve rpcs are there so that an executor manager of another version is told why it cannot join.
"""

from typing import Any

import grpc

from flame.session_manager.serving import refused, service
from flame.wire import v1

SENTENCE = (
    "this session manager does not serve flame.v1.Backend: its nodes and executors use the channels "
    "of flame.channel.v1; start the flame-executor-manager of the same version"
)


def backend_handler() -> Any:
    """Return the handler that answers every Backend rpc with UNIMPLEMENTED."""
    return service(
        {
            method.path: refused(method, grpc.StatusCode.UNIMPLEMENTED, SENTENCE)
            for method in v1.BACKEND.values()
        }
    )
