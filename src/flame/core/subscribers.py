"""Subscribers read a session's outcome log, each at its own pace: as fast as it grants credit."""

from flame.core.effects import (
    FetchOutcomes,
    SendOutcomes,
    SendSessionClosed,
)
from flame.core.events import GrantOutcomes, OutcomesFetched
from flame.core.keeping import acknowledge_taken
from flame.core.outcome_log import MOST_CREDIT, Attachment, cut, up_to
from flame.core.records import OutcomesRecorded
from flame.core.session import Session
from flame.core.state import State
from flame.model.specs import SessionState

#: After so many parts of the log that hold nothing of its own a client is told how far it is: when it
#: comes back it need not be read for it again.
MOST_SKIPPED = 64


def serve(state: State, session: Session, attachment: Attachment) -> None:
    """Send an attachment what it has credit for."""
    if not attachment.subscribed or attachment.fetching:
        return
    while attachment.cursor < session.log_end and attachment.credit > 0:
        batch = session.tail.find(attachment.cursor)
        if batch is None:
            attachment.fetching = True
            state.emit(
                FetchOutcomes(attachment.id, session.number, attachment.cursor, attachment.credit)
            )
            return
        _send(state, session, attachment, batch)
    if (
        session.state is SessionState.CLOSED
        and attachment.cursor == session.log_end == session.next_position
        and not attachment.told_closed
    ):
        attachment.told_closed = True
        state.emit(SendSessionClosed(attachment.id))


def _send(state: State, session: Session, attachment: Attachment, batch: OutcomesRecorded) -> None:
    if attachment.own:
        # Of a thousand clients in one session, each gets what is its own, not a thousand times that.
        submitter = session.submitters.get(attachment.submitter)
        if submitter is None or not submitter.has_any(batch.task_ids):
            end = batch.first_position + len(batch.task_ids)
            if attachment.taken == attachment.cursor:
                attachment.taken = end  # else it has not taken yet what was sent before
            attachment.cursor = end
            attachment.skipped += 1
            if attachment.skipped == MOST_SKIPPED:
                attachment.skipped = 0
                state.emit(SendOutcomes(attachment.id, end, [], [], {}))
            return
    attachment.skipped = 0
    part, cost = cut(batch, attachment.cursor, attachment.credit)
    attachment.cursor += len(part.task_ids)
    attachment.credit -= cost
    state.emit(
        SendOutcomes(attachment.id, part.first_position, part.task_ids, part.outputs, part.failures)
    )


def on_grant(state: State, event: GrantOutcomes, now: float) -> None:
    """The client took some outcomes and has room for more."""
    attachment = state.attachments.get(event.attachment)
    if attachment is None:
        return
    session = state.sessions.get(attachment.session)
    if session is None:
        return
    attachment.taken = max(attachment.taken, min(event.position, attachment.cursor))
    attachment.credit = min(MOST_CREDIT, attachment.credit + event.credit)
    if session.is_volatile and attachment.subscribed:
        acknowledge_taken(state, session)
    serve(state, session, attachment)


def on_fetched(state: State, event: OutcomesFetched, now: float) -> None:
    """The store answered a FetchOutcomes."""
    attachment = state.attachments.get(event.attachment)
    if attachment is None:
        return
    attachment.fetching = False
    session = state.sessions.get(attachment.session)
    if session is None:
        return
    if event.batch is not None:
        # The store may be ahead of us: what it has just stored is announced by its own commit.
        _send(state, session, attachment, up_to(event.batch, session.log_end))
    else:
        # A memory session's older outcomes are no longer kept: go on with the first that is.
        attachment.cursor = max(attachment.cursor + 1, event.first_kept)
    serve(state, session, attachment)
