"""Joining stored batches of outcomes, and cutting them down to what a reader asked for."""

from collections.abc import Sequence

from flame.core.outcome_log import part
from flame.core.records import OutcomesRecorded


def joined(batches: Sequence[OutcomesRecorded]) -> OutcomesRecorded:
    """Return consecutive batches as one, with the time of the first."""
    first = batches[0]
    if len(batches) == 1:
        return first
    offset, failures = 0, {}
    for batch in batches:
        failures.update({offset + index: failure for index, failure in batch.failures.items()})
        offset += len(batch.task_ids)
    return OutcomesRecorded(
        session=first.session,
        first_position=first.first_position,
        task_ids=[task_id for batch in batches for task_id in batch.task_ids],
        outputs=[output for batch in batches for output in batch.outputs],
        failures=failures,
        finished_ms=first.finished_ms,
    )


def slice_outcomes(batch: OutcomesRecorded, position: int, max_bytes: int) -> OutcomesRecorded:
    """Return the outcomes from ``position`` on: at least one, then within ``max_bytes`` of outputs.

    ``position`` is one of the batch's own. The batch itself comes back if all of it fits.
    """
    start = position - batch.first_position
    outputs = batch.outputs
    end = start
    for end in range(start, len(outputs)):
        max_bytes -= len(outputs[end] or b"")
        if max_bytes < 0 and end > start:
            break
    else:
        end += 1
    if start == 0 and end == len(outputs):
        return batch
    return part(batch, start, end)
