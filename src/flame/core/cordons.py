"""Cordon and drain: nodes on which nothing new starts, and which executors leave.

A drain is a cordon under which the node's executors also leave: they finish what they run and give
back what they have not started, which goes to other nodes without spending an attempt. Both are
stored, and hold until the node is uncordoned, whatever becomes of the node or of this manager.
"""

from flame.core.events import CordonNode, UncordonNode
from flame.core.leaving import leave_node
from flame.core.records import CordonDeleted, CordonPut
from flame.core.sessions import ReplyDone
from flame.core.state import State, milliseconds
from flame.model.errors import NotFound
from flame.model.ids import NodeName


def on_cordon(state: State, event: CordonNode, now: float) -> None:
    """Start nothing new on a node; with ``drain``, empty it."""
    known = state.cordons.get(event.node)
    if known is None and event.node not in state.nodes:
        raise _unknown(event.node)
    if known is None or (event.drain and not known.drain):
        known = CordonPut(event.node, event.drain, milliseconds(now))
        state.cordons[event.node] = known
        state.touch_node(event.node)
        state.replan = True
    # Stored even if it was known: the first record may still be on its way.
    state.store(known, ReplyDone(event.reply))
    node = state.nodes.get(event.node)
    for executor in list(node.executors.values()) if node is not None else ():
        if known.drain or executor.standby:
            leave_node(state, executor, now)


def on_uncordon(state: State, event: UncordonNode, now: float) -> None:
    """Use the node again. Executors that were leaving it go on leaving."""
    if state.cordons.pop(event.node, None) is None and event.node not in state.nodes:
        raise _unknown(event.node)
    state.touch_node(event.node)
    state.replan = True
    state.store(CordonDeleted(event.node), ReplyDone(event.reply))


def _unknown(name: NodeName) -> NotFound:
    return NotFound(f"there is no node {name!r}; `flmctl list -n` shows those there are")
