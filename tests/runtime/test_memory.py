"""Memory is given back after a peak, and only then."""

from flame.runtime.memory import WORTHWHILE, Trimmer


def test_memory_is_returned_once_after_a_large_peak() -> None:
    trimmer = Trimmer()
    assert not trimmer.note(4 * WORTHWHILE)
    assert not trimmer.note(2 * WORTHWHILE)
    assert trimmer.note(10)
    assert not trimmer.note(5)


def test_a_small_peak_is_left_alone() -> None:
    trimmer = Trimmer()
    assert not trimmer.note(WORTHWHILE - 1)
    assert not trimmer.note(0)
