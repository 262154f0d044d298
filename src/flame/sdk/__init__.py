"""What programs import: clients, sessions, futures, services, and a cluster on this machine."""

import os

# gRPC's core writes to stderr of its own accord, for example when a session manager goes away, which
# is ordinary here and none of a program's output. Read when gRPC is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
