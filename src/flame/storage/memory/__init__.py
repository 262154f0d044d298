"""The memory engine: nothing survives the process, and nothing waits for a disk.

It is the store of a ``memory`` cluster, and it holds the sessions with ``Durability.MEMORY`` of any
other cluster. A commit keeps references to the batches it is given and
does nothing per task. What readers need per task is worked out when they first ask.

store        the contract, under one lock
session      what one session holds
submitted    its tasks, as they were submitted
outcome_log  its outcomes, in the order of their commits
"""

from flame.storage.memory.store import MemoryStore

__all__ = ["MemoryStore"]
