"""The cluster of this process's own: one per process, shared by its clients, gone with the last one."""

import os
import threading

from flame.model.errors import InvalidRequest
from flame.sdk.configuration import ClientConfiguration
from flame.sdk.local_cluster import LocalCluster
from flame.wire.channels import Endpoint

Options = tuple[int | None, str | None]

_lock = threading.Lock()
_cluster: LocalCluster | None = None
_options: Options = (None, None)
_users = 0


class EmbeddedUse:
    """One client's use of the embedded cluster; :meth:`release` it once."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.configuration = ClientConfiguration((Endpoint.parse(cluster.endpoint),), cluster.token)

    def release(self) -> None:
        """Stop the cluster if this was its last use."""
        global _cluster, _users
        with _lock:
            _users -= 1
            if _users or _cluster is None:
                return
            cluster, _cluster = _cluster, None
        cluster.stop()


def use_embedded(executors: int | None, storage: str | None) -> EmbeddedUse:
    """Start the embedded cluster, or share the one that runs.

    Raises:
        InvalidRequest: It runs with other options.
        FlameError: It did not start; the text has what its processes wrote.
    """
    global _cluster, _options, _users
    with _lock:
        if _cluster is None:
            cluster = LocalCluster(executors=executors, storage=storage)
            cluster.start()
            _cluster, _options = cluster, (executors, storage)
        elif (executors, storage) not in ((None, None), _options):
            raise InvalidRequest(
                f"the cluster of this process runs with executors={_options[0]}, "
                f"storage={_options[1]!r}; it cannot have executors={executors}, "
                f"storage={storage!r} as well. Close its clients first"
            )
        _users += 1
        return EmbeddedUse(_cluster)


def _after_fork_in_child() -> None:
    global _cluster, _users, _lock
    _lock = threading.Lock()
    _cluster, _users = None, 0  # the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
