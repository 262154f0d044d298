"""Who had how much of what it deserved, so that a tenant starved now is repaid, and whose turn it is.

Once a second, and when a turn begins or ends; only while sessions of two tenants are open: alone,
everybody has what there is.
"""

from flame.core.reports import report
from flame.core.state import State
from flame.model.ids import Tenant
from flame.model.resources import Resources
from flame.scheduling.deserved import Fairness, fairness
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch
from flame.scheduling.turns import Part, Turns
from flame.scheduling.usage import Usage

#: Seconds between two looks, at most and at least; and so many times that for every so many sessions,
#: since each takes some milliseconds then.
PERIOD = 1.0
SOONEST = 0.1
SESSIONS = 200
_KEY = ("usage", 0)


def watch(state: State, now: float) -> None:
    """See to it that usage is noted, if there is anything to compare."""
    ledger = state.ledger
    if (ledger.others_share or not state.usage_watched) and _tenants(state) > 1:
        state.usage_watched = True
        soon: float | None = 0.0
        if not ledger.others_share:
            soon = state.turns.next_change() if state.turns is not None else None
        ledger.others_share = False
        wait = PERIOD if soon is None else min(PERIOD, max(SOONEST, soon))
        periods = 1 + len(ledger.leaves) // SESSIONS
        state.deadlines.set(_KEY, now + wait * periods)


def note(state: State, now: float) -> None:
    """Note what everybody has and deserves; tell the ledger who is owed."""
    state.usage_watched = False
    ledger = state.ledger
    if state.usage is None:
        state.usage = Usage[Tenant](now)
    if not ledger.leaves:
        state.usage.note(now, {})
        return
    report(state, now)
    tenants, _ = fairness(ledger)
    leaves = {n: f for n, f in tenants.items() if not ledger.branches[n].children}
    state.usage.note(now, leaves)
    for name, balance in state.usage.balances().items():
        ledger.put_balance(name, balance)
    if ledger.policies.sharing.by_tenant and ledger.policies.sharing.takes_back:
        _take_turns(state, tenants, now)
    if state.waiting:
        state.replan = True
    watch(state, now)


def _take_turns(state: State, tenants: dict[Tenant, Fairness], now: float) -> None:
    ledger = state.ledger
    if state.turns is None:
        state.turns = Turns[Tenant](now)
    parts = {
        name: _part(state, ledger.branches[name], share)
        for name, share in tenants.items()
        if share.deserved > 0
    }
    state.turns.note(now, parts)
    owed, begun = state.turns.owed(), state.turns.begun()
    for name, share in tenants.items():
        ledger.put_turn(name, share.deserved, owed.get(name), turn=name in begun)


def _part(state: State, branch: Branch, share: Fairness) -> Part:
    ledger = state.ledger
    leaving, leaves = branch.leaving, list(branch.leaves.values())
    below = list(branch.children)
    while below:
        child = below.pop()
        below += child.children
        leaves += child.leaves.values()
        leaving = leaving + child.leaving
    busy = (
        ledger.policies.sharing.price(leaving, ledger.total) / WHOLE
        if leaving != Resources()
        else 0.0
    )
    starts = [state.sessions[leaf.wish.session].start_seconds for leaf in leaves]
    coming = sum(leaf.promised * leaf.price for leaf in leaves) / WHOLE
    starting = sum(
        leaf.price * state.sessions[leaf.wish.session].count_starting() for leaf in leaves
    )
    prices = [leaf.price for leaf in leaves] or [ledger.tree.unit]
    return Part(
        share.deserved,
        share.got + coming,
        share.got + busy - starting / WHOLE,
        max(prices) / WHOLE,
        max(starts, default=0.0),
        branch.parent.order if branch.parent is not None else None,
    )


def _tenants(state: State) -> int:
    return sum(1 for branch in state.ledger.branches.values() if branch.leaves)
