"""What the core needs to know at start-up.

Finished work is skipped over: of the outcomes only the ids are read, of the batches only those that
still have pending tasks are decoded, and those only when the core comes to them. While a session is
being read there is one byte for each task it ever had; afterwards only for pieces with pending ones.

All is read in pieces. Many small batches make one, so that a session whose tasks were submitted one by
one does not cost a statement for each of them, and no piece is too large to be in memory.
"""

from collections.abc import Iterator
from typing import NamedTuple

from flame.core.records import (
    ApplicationPut,
    BindingPut,
    CordonPut,
    Recovered,
    RecoveredSession,
    SessionPut,
    SubmittedRange,
    TenantPut,
    TokenPut,
)
from flame.model.attempts import Attempt
from flame.model.credentials import TokenId
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.specs import Event, SessionState, TaskLimits
from flame.model.task_notes import TaskNotes
from flame.storage import rows
from flame.storage.ranges import merged
from flame.storage.reader import (
    Reader,
    limited_inputs,
    stored_ids,
    verified_batch,
    verify_outcomes,
)
from flame.storage.store import CorruptStore

#: Rows without payloads that are read together.
PAGE = 1000
#: A piece ends with the batch that reaches so many bytes of inputs, or tasks.
PIECE_BYTES = 1024 * 1024
PIECE_TASKS = 8192
#: A finished batch of so many bytes within a piece is read along: another statement costs more.
SMALL_BATCH = 4096


class _Piece(NamedTuple):
    """Batches to be read together: the first ids of the first and the last, and what is pending."""

    first_id: int
    last_first_id: int
    final: bytes  #: for each task from first_id on; 0 is pending


def recover(reader: Reader, epoch: int, next_session: int) -> Recovered:
    """Read everything but finished tasks.

    Raises:
        CorruptStore: A row is not what was written.
    """
    return Recovered(
        epoch=epoch,
        next_session=next_session,
        # An epoch is never used twice, so its incarnations are not either, and none is stored.
        # 2**32 of them last for longer than one start of a manager does.
        next_incarnation=(epoch << 32) + 1,
        applications=sorted(_applications(reader), key=lambda put: (put.tenant, put.name)),
        sessions=[_session(reader, put) for put in _sessions(reader)],
        bindings=sorted(_bindings(reader), key=lambda put: put.executor),
        tenants=sorted(_tenants(reader), key=lambda put: put.spec.name),
        tokens=sorted(_tokens(reader), key=lambda put: put.token),
        cordons=sorted(_cordons(reader), key=lambda put: put.node),
    )


def _applications(reader: Reader) -> Iterator[ApplicationPut]:
    for tenant, name, created_ms, check, spec in reader.rows(
        "SELECT tenant, name, created_ms, check_sum, spec FROM applications"
    ):
        key = tenant, name
        rows.verify("applications", key, check, tenant, name, created_ms)
        decoded = rows.unseal(rows.application_spec, spec, check, "applications", key)
        yield ApplicationPut(Tenant(tenant), name, decoded, created_ms)


def _bindings(reader: Reader) -> Iterator[BindingPut]:
    for executor, tenant, session, incarnation, node, application, check in reader.rows(
        "SELECT executor, tenant, session, incarnation, node, application, check_sum FROM bindings"
    ):
        rows.verify(
            "bindings", executor, check, executor, tenant, session, incarnation, node, application
        )
        yield BindingPut(
            ExecutorId(executor), incarnation, NodeName(node), session, application, Tenant(tenant)
        )


def _tenants(reader: Reader) -> Iterator[TenantPut]:
    for name, created_ms, check, spec in reader.rows(
        "SELECT tenant, created_ms, check_sum, spec FROM tenants"
    ):
        rows.verify("tenants", name, check, name, created_ms)
        yield TenantPut(rows.unseal(rows.tenant_spec, spec, check, "tenants", name), created_ms)


def _tokens(reader: Reader) -> Iterator[TokenPut]:
    for token, created_ms, check, spec in reader.rows(
        "SELECT token, created_ms, check_sum, spec FROM tokens"
    ):
        rows.verify("tokens", token, check, token, created_ms)
        decoded = rows.unseal(rows.token_spec, spec, check, "tokens", token)
        yield TokenPut(TokenId(token), decoded, created_ms)


def _cordons(reader: Reader) -> Iterator[CordonPut]:
    for node, drain, since_ms, check in reader.rows(
        "SELECT node, drain, since_ms, check_sum FROM cordons"
    ):
        rows.verify("cordons", node, check, node, drain, since_ms)
        yield CordonPut(NodeName(node), bool(drain), since_ms)


def _sessions(reader: Reader) -> Iterator[SessionPut]:
    for number, tenant, name, state, created_ms, closed_ms, check, spec in reader.rows(
        "SELECT session, tenant, name, state, created_ms, closed_ms, check_sum, spec"
        " FROM sessions ORDER BY session"
    ):
        rows.verify("sessions", number, check, number, tenant, name, state, created_ms, closed_ms)
        yield SessionPut(
            SessionNumber(number),
            Tenant(tenant),
            name,
            rows.unseal(rows.session_spec, spec, check, "sessions", number),
            SessionState(state),
            created_ms,
            closed_ms,
        )


def _session(reader: Reader, put: SessionPut) -> RecoveredSession:
    session = put.session
    end = _end(reader, session)
    final = bytearray(end)  # index 0 is not a task
    log_end, *counts = _mark_final(reader, session, final)
    submitters: dict[bytes, list[SubmittedRange]] = {}
    pieces = list(_pieces(reader, session, final, submitters))
    spent = reader.attempts(session, 1, end - 1) if pieces else {}
    limits: dict[TaskId, TaskLimits] = {}
    notes: dict[TaskId, TaskNotes] = {}
    return RecoveredSession(
        put=put,
        next_task_id=TaskId(end),
        log_end=log_end,
        succeeded=counts[0],
        failed=counts[1],
        cancelled=counts[2],
        events=list(_events(reader, session)),
        submitters={submitter: merged(ranges) for submitter, ranges in submitters.items()},
        pending=_pending(reader, session, pieces, spent, limits, notes),
        notes=notes,
        limits=limits,
        history={task_id: known for task_id, known in spent.items() if not final[task_id]},
    )


def _end(reader: Reader, session: SessionNumber) -> int:
    """Return the id after the last submitted task's."""
    last = reader.rows(
        "SELECT session, first_id, count, submitter, first_number, created_ms, check_sum"
        " FROM batches WHERE session = ?1 ORDER BY first_id DESC LIMIT 1",
        session,
    )
    if not last:
        return 1
    first_id, count, _ = verified_batch(last[0])
    return first_id + count


def _pieces(
    reader: Reader,
    session: SessionNumber,
    final: bytearray,
    submitters: dict[bytes, list[SubmittedRange]],
) -> Iterator[_Piece]:
    """Read the batches without their inputs: who submitted them, and which have pending tasks."""
    begin = last = end = size = 0  # of the piece; none has begun while begin is 0
    after = 0
    while found := reader.rows(
        "SELECT session, first_id, count, submitter, first_number, created_ms, check_sum,"
        " length(inputs) FROM batches WHERE session = ?1 AND first_id > ?2"
        " ORDER BY first_id LIMIT ?3",
        session,
        after,
        PAGE,
    ):
        submitted: dict[bytes, list[SubmittedRange]] = {}
        for row in found:
            after, count, _ = verified_batch(row)
            submitter, first_number = row[3], row[4]
            length = row[7] or 0  # NULL is damage, found where the inputs are read
            if submitter:
                submitted.setdefault(submitter, []).append(
                    SubmittedRange(first_number, TaskId(after), count)
                )
            pending = 0 in final[after : after + count]
            if begin and not pending and length > SMALL_BATCH:
                yield _Piece(begin, last, bytes(final[begin:end]))
                begin = 0
            elif begin or pending:
                begin, size = (begin, size) if begin else (after, 0)
                last, end, size = after, after + count, size + length
                if size >= PIECE_BYTES or end - begin >= PIECE_TASKS:
                    yield _Piece(begin, last, bytes(final[begin:end]))
                    begin = 0
        for submitter, ranges in submitted.items():
            submitters.setdefault(submitter, []).extend(merged(ranges))
    if begin:
        yield _Piece(begin, last, bytes(final[begin:end]))


def _mark_final(
    reader: Reader, session: SessionNumber, final: bytearray
) -> tuple[int, int, int, int]:
    """Mark the final tasks; return the log's end, and how many succeeded, failed, were cancelled.

    The ids are read in slices, so that a long log is never in memory as a whole.
    """
    log_end = succeeded = failed = cancelled = 0
    while found := reader.rows(
        "SELECT session, first_position, count, min_id, max_id, succeeded, failed, cancelled,"
        " finished_ms, check_sum, ids FROM outcomes WHERE session = ?1 AND first_position >= ?2"
        " ORDER BY first_position LIMIT ?3",
        session,
        log_end,
        PAGE,
    ):
        for row in found:
            verify_outcomes(row)
            low, high = row[3], row[4]
            if high >= len(final):
                raise CorruptStore(
                    f"table outcomes, row {row[:2]}: task {high} is final, but table batches"
                    f" ends before task {len(final)}"
                )
            if row[10] is None:
                final[low : high + 1] = b"\1" * (high + 1 - low)
            else:
                for task_id in stored_ids(row):
                    final[task_id] = 1
            log_end = row[1] + row[2]
            succeeded += row[5]
            failed += row[6]
            cancelled += row[7]
    return log_end, succeeded, failed, cancelled


def _events(reader: Reader, session: SessionNumber) -> Iterator[Event]:
    for number, check, event in reader.rows(
        "SELECT number, check_sum, event FROM session_events WHERE session = ?1 ORDER BY number",
        session,
    ):
        rows.verify("session_events", number, check, session)
        yield rows.unseal(rows.event, event, check, "session_events", number)


def _pending(
    reader: Reader,
    session: SessionNumber,
    pieces: list[_Piece],
    spent: dict[TaskId, list[Attempt]],
    limits: dict[TaskId, TaskLimits],
    notes: dict[TaskId, TaskNotes],
) -> Iterator[tuple[TaskId, bytes | None, int, int]]:
    for begin, last, final in pieces:
        for row in reader.rows(
            "SELECT session, first_id, count, submitter, first_number, created_ms, check_sum,"
            " inputs FROM batches WHERE session = ?1 AND first_id BETWEEN ?2 AND ?3"
            " ORDER BY first_id",
            session,
            begin,
            last,
        ):
            first_id, _, created_ms = verified_batch(row)
            inputs, own, said = limited_inputs(row)
            for index, given in enumerate(inputs):
                if not final[first_id - begin + index]:
                    task_id = TaskId(first_id + index)
                    known = spent.get(task_id)
                    if index in own:
                        limits[task_id] = own[index]
                    if index in said:
                        notes[task_id] = said[index]
                    yield task_id, given, created_ms, known[-1].number if known else 0
