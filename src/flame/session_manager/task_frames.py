"""The task channel's frames: submits taken apart, and what piled up for a client put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flame.model.errors import InvalidRequest
from flame.model.ids import TaskId
from flame.model.specs import Failure, TaskLimits
from flame.model.task_notes import TaskNotes, task_notes
from flame.wire import batches, frames
from flame.wire.frames import ManagerFrame

#: The longest timeout or deadline of a task, some 68 years: the SDK's as well.
MAX_LIMIT_MS = 2**31 * 1000


@dataclass(slots=True)
class OutcomeItem:
    """Outcomes that wait in an outbox; neighbours of one session are merged."""

    alias: int
    position: int
    task_ids: Sequence[TaskId]
    outputs: Sequence[bytes | None]
    failures: dict[int, Failure]


def notes_of(submit: frames.Submit) -> dict[int, TaskNotes]:
    if len(submit.noted) != len(submit.notes):
        raise InvalidRequest("submit: noted and notes differ in length")
    if max(submit.noted) >= len(submit.inputs):
        raise InvalidRequest("submit: noted names a task beyond the last one")
    return {
        index: task_notes(
            dict(zip(said.labels[::2], said.labels[1::2], strict=False)),
            said.input_location,
            said.output_location,
        )
        for index, said in zip(submit.noted, submit.notes, strict=True)
    }


def limits_of(submit: frames.Submit) -> dict[int, TaskLimits]:
    if not len(submit.limited) == len(submit.timeout_ms) == len(submit.deadline_ms):
        raise InvalidRequest("submit: limited, timeout_ms and deadline_ms differ in length")
    if max(submit.limited) >= len(submit.inputs):
        raise InvalidRequest("submit: limited names a task beyond the last one")
    if max(*submit.timeout_ms, *submit.deadline_ms) > MAX_LIMIT_MS:
        raise InvalidRequest(f"submit: a task's limit is over {MAX_LIMIT_MS} ms")
    own = map(TaskLimits, submit.timeout_ms, submit.deadline_ms)
    return dict(zip(submit.limited, own, strict=True))


def build(items: list[Any]) -> list[ManagerFrame]:
    """Make frames of what piled up.

    Consecutive outcomes of a session share frames, and acknowledgements travel with the next outcomes.
    """
    built: list[ManagerFrame] = []
    accepted: list[frames.Accepted] = []
    pending: OutcomeItem | None = None
    for item in items:
        if type(item) is frames.Accepted:
            _add_accepted(accepted, item)
        elif type(item) is not OutcomeItem:
            if pending is not None:
                _add_outcomes(built, pending, accepted)
                pending = None
            built.extend(ManagerFrame(accepted=one) for one in accepted)
            accepted.clear()
            built.append(item)
        elif (
            pending is not None
            and pending.alias == item.alias
            and pending.position + len(pending.task_ids) == item.position
        ):
            shift = len(pending.task_ids)
            pending = OutcomeItem(
                pending.alias,
                pending.position,
                [*pending.task_ids, *item.task_ids],
                [*pending.outputs, *item.outputs],
                {**pending.failures, **{i + shift: f for i, f in item.failures.items()}},
            )
        else:
            if pending is not None:
                _add_outcomes(built, pending, accepted)
            pending = item
    if pending is not None:
        _add_outcomes(built, pending, accepted)
    built.extend(ManagerFrame(accepted=one) for one in accepted)
    return built


def _add_accepted(accepted: list[frames.Accepted], item: frames.Accepted) -> None:
    last = accepted[-1] if accepted else None
    if (
        last is not None
        and last.alias == item.alias
        and last.first_number + last.count == item.first_number
        and last.first_task_id + last.count == item.first_task_id
    ):
        last.count += item.count
        last.credit += item.credit
    else:
        accepted.append(item)


def _add_outcomes(
    built: list[ManagerFrame], item: OutcomeItem, accepted: list[frames.Accepted]
) -> None:
    for start, end in batches.cuts(item.outputs):
        outputs, absent = batches.pack(item.outputs[start:end])
        some = {i - start: f for i, f in item.failures.items() if start <= i < end}
        indexes, failures = batches.pack_failures(some)
        built.append(
            ManagerFrame(
                outcomes=frames.Outcomes(
                    alias=item.alias,
                    position=item.position + start,
                    task_ids=item.task_ids[start:end],
                    outputs=outputs,
                    absent=absent,
                    unsuccessful=indexes,
                    failures=failures,
                    accepted=accepted,
                )
            )
        )
        accepted.clear()
