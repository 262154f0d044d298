"""The node's side of Flame: one executor manager per node, one process per executor.

    executor manager ─▶ guardian ─▶ executor, executor, ... (each hosts a service)

``agent`` speaks the node channel, ``supervisor`` decides which processes there should be, and the
``guardian`` is their parent, so that nothing they forked outlives them or the manager.
"""

import flame.wire  # noqa: F401 - first of all: it settles how gRPC runs in this process
