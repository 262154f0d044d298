"""Once a second or so: who had how much of what it deserved, so that a tenant starved now is repaid.

Only while sessions of two tenants are open: alone, everybody has what there is.
"""

from flame.core.reports import report
from flame.core.state import State
from flame.model.ids import Tenant
from flame.scheduling.deserved import fairness
from flame.scheduling.usage import Usage

#: Seconds between two looks, for every so many sessions: each takes some milliseconds then.
PERIOD = 1.0
SESSIONS = 200
_KEY = ("usage", 0)


def watch(state: State, now: float) -> None:
    """See to it that usage is noted, if there is anything to compare."""
    if not state.usage_watched and _tenants(state) > 1:
        state.usage_watched = True
        periods = 1 + len(state.ledger.leaves) // SESSIONS
        state.deadlines.set(_KEY, now + PERIOD * periods)


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
    if state.waiting:
        state.replan = True
    watch(state, now)


def _tenants(state: State) -> int:
    return sum(1 for branch in state.ledger.branches.values() if branch.leaves)
