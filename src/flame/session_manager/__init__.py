"""The session manager: gRPC services, access, and the shell around the engine."""

import flame.wire  # noqa: F401 - first of all: it settles how gRPC runs in this process
