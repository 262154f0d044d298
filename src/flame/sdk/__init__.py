"""What programs import: clients, sessions, futures, services, and a cluster on this machine."""

import flame.wire  # noqa: F401 - first of all: it settles how gRPC runs in this process
