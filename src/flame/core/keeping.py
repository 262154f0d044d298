"""How long a session in memory keeps outcomes: until everybody who counts has taken them.

A client that submits counts also while it is away, for a minute: it comes back and asks for the rest.
One that only watches counts as long as it is not too far behind; then it misses some, and is told so by
the position of what comes next. So nobody who is slow fills the memory.
"""

from flame.core.outcome_log import Attachment
from flame.core.records import OutcomesAcknowledged
from flame.core.session import Session
from flame.core.state import State
from flame.model.errors import WrongState

#: Seconds for which the outcomes of a client that is away are kept.
AWAY = 60.0


def check_kept(session: Session, submitter: bytes, position: int) -> None:
    """Let a submitter come back only while nothing is missing that it waits for.

    Raises:
        WrongState: It was away for too long.
    """
    if submitter in session.submitters and position < session.acknowledged:
        raise WrongState(
            f"outcomes of session {session.name!r} are no longer kept: it lives in memory, and its client "
            f"was away for more than {AWAY:.0f} s; open another session, or one with durability 'durable'"
        )


def came_back(session: Session, submitter: bytes) -> None:
    """It takes what it waits for itself now."""
    session.away.pop(submitter, None)


def went_away(state: State, session: Session, attachment: Attachment, now: float) -> None:
    """Keep what this client has not taken, for a while."""
    if session.is_volatile and attachment.subscribed and attachment.submitter:
        session.away[attachment.submitter] = (attachment.taken, now + AWAY)
        _set_alarm(state, session)


def away_overdue(state: State, session: Session, now: float) -> None:
    """Keep nothing more for those who did not come back."""
    for submitter in [s for s, (_, due) in session.away.items() if due <= now]:
        del session.away[submitter]
    _set_alarm(state, session)
    acknowledge_taken(state, session)


def acknowledge_taken(state: State, session: Session) -> None:
    """Let the memory engine drop what everybody who counts has taken."""
    taken = [position for position, _ in session.away.values()]
    start = session.tail.start
    for attachment in session.attachments.values():
        if attachment.subscribed:
            is_watcher = not attachment.submitter and start is not None
            taken.append(max(attachment.taken, start or 0) if is_watcher else attachment.taken)
    if taken:
        acknowledge(state, session, min(taken))


def acknowledge(state: State, session: Session, position: int) -> None:
    """Let the memory engine drop the finished tasks below a position."""
    if position > session.acknowledged:
        session.acknowledged = position
        state.store(OutcomesAcknowledged(session.number, position), session=session)


def _set_alarm(state: State, session: Session) -> None:
    if session.away:
        state.deadlines.set(("away", session.number), min(due for _, due in session.away.values()))
