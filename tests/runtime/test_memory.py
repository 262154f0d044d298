"""Memory is given back after a peak, and only then."""

from flame.runtime.memory import WORTHWHILE, Trimmer


def test_memory_is_returned_once_after_a_large_peak() -> None:
    trimmer = Trimmer()
    asked: list[int] = []
    trimmer._trim = asked.append
    assert not trimmer.note(4 * WORTHWHILE)
    assert not trimmer.note(WORTHWHILE + 1)
    assert asked == []
    assert trimmer.note(WORTHWHILE)
    assert not trimmer.note(WORTHWHILE // 2)
    assert asked == [0]


def test_a_small_peak_is_left_alone() -> None:
    trimmer = Trimmer()
    assert not trimmer.note(WORTHWHILE - 1)
    assert not trimmer.note(0)
