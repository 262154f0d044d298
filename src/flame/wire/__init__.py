"""Bytes to model and back: generated protobuf, codecs, channel set-up, status codes.

The only package that imports generated code; others take message classes from ``frames`` (the
channels) and ``v1`` (the public API). Importing it also settles how gRPC runs in this process, so
every package of ours that uses gRPC imports this one first.
"""

import os

#: How gRPC runs in our processes, unless their environment says otherwise. Read when gRPC is loaded
#: or first used.
#:
#: VERBOSITY: its core writes to stderr of its own accord, for example when a session manager goes
#: away, which is ordinary here and none of a program's output.
#: FORK_SUPPORT: its core starts its threads again in a forked child, where they use what belongs to
#: the parent and crash, now and then, any child of a connected program. A child does without gRPC.
#: EXPERIMENTS: the event engine hands each message to threads of its own and back; without it a
#: message costs a fifth less CPU on either side (docs/decisions/0008).
GRPC_SETTINGS = {
    "GRPC_VERBOSITY": "ERROR",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}

for _name, _value in GRPC_SETTINGS.items():
    os.environ.setdefault(_name, _value)
