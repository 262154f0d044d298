"""Which of a submitter's numbers are which tasks."""

from collections.abc import Iterable

from flame.core.records import SubmittedRange


def merged(ranges: Iterable[SubmittedRange]) -> list[SubmittedRange]:
    """Sort by first number, and join neighbours whose numbers and task ids both go on."""
    out: list[SubmittedRange] = []
    for item in sorted(ranges, key=lambda r: r.first_number):
        last = out[-1] if out else None
        if (
            last is not None
            and last.first_number + last.count == item.first_number
            and last.first_id + last.count == item.first_id
        ):
            out[-1] = SubmittedRange(last.first_number, last.first_id, last.count + item.count)
        else:
            out.append(item)
    return out
