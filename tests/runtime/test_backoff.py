import random

from flame.runtime.backoff import Backoff


def test_delays_double_up_to_the_ceiling_and_start_again_after_a_success() -> None:
    backoff = Backoff(1.0, 4.0, random.Random(1))
    delays = [backoff.next_delay() for _ in range(5)]
    for delay, most in zip(delays, [1, 2, 4, 4, 4], strict=True):
        assert most / 2 <= delay <= most
    backoff.reset()
    assert backoff.next_delay() <= 1


def test_equal_seeds_give_equal_delays() -> None:
    first, second = (Backoff(source=random.Random(3)) for _ in range(2))
    assert [first.next_delay() for _ in range(9)] == [second.next_delay() for _ in range(9)]
