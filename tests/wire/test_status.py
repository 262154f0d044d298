"""An error arrives as what it was."""

import grpc
import pytest

from flame.model import errors
from flame.wire import status, v1


@pytest.mark.parametrize("kind", list(status.CODE_OF))
def test_an_error_s_code_leads_back_to_it(kind: type[errors.FlameError]) -> None:
    assert type(status.error_of(status.code_of(kind("why")), "why")) is kind


def test_trailing_metadata_names_the_class_where_the_code_says_less() -> None:
    trailing = ((v1.ERROR_KEY, "WrongState"),)
    error = status.error_of(grpc.StatusCode.INVALID_ARGUMENT, "closed", trailing)
    assert type(error) is errors.WrongState
    assert str(error) == "closed"


@pytest.mark.parametrize("name", ["NoSuchError", "annotations", "__name__", ""])
def test_a_name_that_is_no_error_of_ours_is_ignored(name: str) -> None:
    error = status.error_of(grpc.StatusCode.NOT_FOUND, "gone", ((v1.ERROR_KEY, name),))
    assert type(error) is errors.NotFound


def test_a_deadline_is_unavailable() -> None:
    error = status.error_of(grpc.StatusCode.DEADLINE_EXCEEDED, "slow")
    assert type(error) is errors.Unavailable


def test_a_call_that_the_other_side_gave_up_is_unavailable() -> None:
    error = status.error_of(grpc.StatusCode.CANCELLED, "the handler was cancelled")
    assert type(error) is errors.Unavailable
    cancelled = ((v1.ERROR_KEY, "TaskCancelled"),)
    assert (
        type(status.error_of(grpc.StatusCode.CANCELLED, "mine", cancelled)) is errors.TaskCancelled
    )
