"""What programs import: clients, sessions, futures, services, and a cluster on this machine."""

import os

# Read when gRPC is loaded; a program that sets them itself is left alone.
#
# gRPC's core writes to stderr of its own accord, for example when a session manager goes away, which
# is ordinary here and none of a program's output.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Its core starts its threads again in a forked child, where they use what belongs to the parent and
# crash, now and then, any child of a connected program. A child does without gRPC: see io_thread.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
