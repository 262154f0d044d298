"""``priority``: strict tiers. A higher one is served before a lower one gets anything.

Between tenants a quota still holds: what is guaranteed to one is not taken for another's priority.
Equal sessions are shared between by whatever policy is named beside it.
"""

from flame.scheduling.facts import Wish


def tier(wish: Wish) -> int:
    """Return the tier of a session; higher goes first."""
    return wish.priority


def one_tier(wish: Wish) -> int:
    """Without this policy all sessions are in the same tier."""
    return 0
