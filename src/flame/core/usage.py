"""Who had how much of what it deserved, so that a tenant starved now is repaid, and whose turn it is.

Once a second, and when a turn begins or ends; only while sessions of two tenants are open, or one of a
tenant's waits beside another: alone, everybody has what there is.
"""

from typing import TypeVar

from flame.core.reports import report
from flame.core.state import State
from flame.model.ids import SessionNumber, Tenant
from flame.model.resources import Resources
from flame.scheduling.deserved import Fairness, fairness
from flame.scheduling.ledger import Ledger
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch, Leaf, Standing
from flame.scheduling.turns import LONGEST_OF_SESSIONS, SHORTEST_OF_SESSIONS, Part, Turns
from flame.scheduling.usage import Usage

#: Seconds between two looks, at most and at least; and so many times that for every so many sessions,
#: since each takes some milliseconds then.
PERIOD = 1.0
SOONEST = 0.1
SESSIONS = 200
_KEY = ("usage", 0)
Key = TypeVar("Key", Tenant, SessionNumber)


def watch(state: State, now: float) -> None:
    """See to it that usage is noted, if there is anything to compare."""
    ledger = state.ledger
    if (ledger.others_share or not state.usage_watched) and _is_shared(ledger):
        state.usage_watched = True
        soon: float | None = 0.0
        if not ledger.others_share:
            # Turns of sessions are long: those can wait.
            soon = state.turns.next_change() if state.turns is not None else None
        ledger.others_share = False
        periods = 1 + len(ledger.leaves) // SESSIONS
        wait = PERIOD if soon is None else min(PERIOD, max(SOONEST * periods, soon))
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
    tenants, sessions = fairness(ledger)
    leaves = {n: f for n, f in tenants.items() if not ledger.branches[n].children}
    state.usage.note(now, leaves)
    for name, balance in state.usage.balances().items():
        ledger.put_balance(name, balance)
    if ledger.policies.sharing.by_tenant and ledger.policies.sharing.takes_back:
        _take_turns(state, tenants, sessions, now)
    if state.waiting:
        state.replan = True
    watch(state, now)


def _take_turns(
    state: State,
    tenants: dict[Tenant, Fairness],
    sessions: dict[SessionNumber, Fairness],
    now: float,
) -> None:
    ledger = state.ledger
    if state.turns is None or state.session_turns is None:
        state.turns = Turns[Tenant](now)
        state.session_turns = Turns[SessionNumber](now, SHORTEST_OF_SESSIONS, LONGEST_OF_SESSIONS)
    branches = ledger.branches
    parts = {n: _part(state, branches[n], f) for n, f in tenants.items() if f.deserved > 0}
    _note(ledger, state.turns, parts, tenants, now)
    rivals = [
        leaf
        for branch in branches.values()
        if branch.listed and len(branch.leaves) > 1
        for leaf in branch.leaves.values()
    ]
    shares = {leaf.wish.session: sessions[leaf.wish.session] for leaf in rivals}
    parts_of_sessions = {
        leaf.wish.session: _part_of(state, leaf, shares[leaf.wish.session])
        for leaf in rivals
        if shares[leaf.wish.session].deserved > 0
    }
    _note(ledger, state.session_turns, parts_of_sessions, shares, now)


def _note(
    ledger: Ledger,
    turns: Turns[Key],
    parts: dict[Key, Part],
    shares: dict[Key, Fairness],
    now: float,
) -> None:
    turns.note(now, parts)
    owed, begun = turns.owed(), turns.begun()
    for key, share in shares.items():
        standing = Standing(share.deserved * WHOLE, owed.get(key), key in begun)
        ledger.put_standing(key, standing)


def _part_of(state: State, leaf: Leaf, share: Fairness) -> Part:
    session, price = state.sessions[leaf.wish.session], leaf.price / WHOLE
    busy = len(session.leaving) - session.count_starting()
    return Part(
        share.deserved,
        leaf.taken * price,
        (leaf.kept + busy) * price,
        price * leaf.wish.batch_size,
        session.start_seconds,
        (leaf.parent.order, leaf.tier),
    )


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


def _is_shared(ledger: Ledger) -> bool:
    """Whether sessions of two tenants are open, or one of a tenant's waits beside another."""
    tenants = 0
    for branch in ledger.branches.values():
        if branch.leaves:
            tenants += 1
            if tenants > 1 or (branch.listed and len(branch.leaves) > 1):
                return True
    return False
