"""What this node is, and where its session manager is, for those that start its executors."""

from dataclasses import dataclass, field

from flame.executor_manager.accounts import Accounts
from flame.executor_manager.sandbox import Bubblewrap
from flame.executor_manager.volumes import Allowed
from flame.wire import frames
from flame.wire.channels import Endpoint


@dataclass(frozen=True, slots=True)
class Node:
    """What every executor of this node is told.

    Attributes:
        endpoints: The session managers'.
        directory: Of the executor manager; absolute.
        socket_directory: Short, for the sockets of host services.
        hidden: Files and directories that services in a sandbox must not see.
        gpu_ids: The GPUs that it offers.
        volume_allow: What applications may name as volumes.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    ca_file: str | None
    directory: str
    socket_directory: str
    accounts: Accounts
    bubblewrap: Bubblewrap
    hidden: tuple[str, ...]
    gpu_ids: tuple[str, ...] = ()
    volume_allow: tuple[Allowed, ...] = ()


@dataclass(slots=True)
class Leader:
    """The session manager that this node is registered with.

    Attributes:
        endpoint: Where it is.
        framed: Where executors may connect there without gRPC, as it said itself.
    """

    endpoint: Endpoint
    framed: frames.FramedAddress = field(default_factory=frames.FramedAddress)
