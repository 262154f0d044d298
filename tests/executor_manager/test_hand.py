import signal
import threading

from flame.executor_manager.hand import End, Enter, Hand, Leave, held_of
from flame.model.ids import TaskId
from flame.wire import frames
from tests.waiting import wait_until


def hand_with(count: int) -> Hand:
    hand = Hand()
    hand.deal((TaskId(i), 1, b"") for i in range(1, count + 1))
    return hand


def ids(hand: Hand) -> list[int]:
    return [task[0] for task in hand.tasks]


def test_the_last_ones_are_taken_back_first() -> None:
    hand = hand_with(5)
    assert hand.take_back((), 2) == [5, 4]
    assert ids(hand) == [1, 2, 3]
    assert hand.take_back((), 9) == [3, 2, 1]


def test_named_tasks_are_taken_back_and_the_others_keep_their_order() -> None:
    hand = hand_with(6)
    assert sorted(hand.take_back([2, 5, 99])) == [2, 5]
    assert ids(hand) == [1, 3, 4, 6]


def test_commands_wait_for_the_tasks_before_them() -> None:
    hand = hand_with(1)
    hand.command(Leave())
    assert hand.wait() is None
    hand.tasks.popleft()
    assert hand.wait() == Leave()


def test_an_end_gives_up_what_has_not_started() -> None:
    hand = hand_with(3)
    hand.end()
    assert hand.wait() == End()


def test_a_signal_is_handled_while_the_main_thread_sleeps_and_does_not_wake_it() -> None:
    hand, seen = Hand(), list[int]()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))

    def interrupt_then_deal() -> None:
        wait_until(lambda: hand._main_waits, "the main thread sleeps")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        wait_until(lambda: seen, "the signal's handler")
        hand.deal([(TaskId(1), 1, b"")])

    other = threading.Thread(target=interrupt_then_deal)
    other.start()
    try:
        assert hand.wait() is None
    finally:
        other.join(20)
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]
    assert len(hand.tasks) == 1


def test_what_arrives_together_wakes_the_main_thread_when_it_is_all_there() -> None:
    hand, seen = Hand(), list[object]()
    worker = threading.Thread(target=lambda: seen.append(hand.wait()))
    worker.start()
    wait_until(lambda: hand._main_waits, "the main thread sleeps")
    hand.gathering = True
    hand.deal([(TaskId(1), 1, b"")])
    hand.command(Enter(frames.Bind(session=1)))
    hand.hand_over()
    worker.join(20)
    assert seen == [Enter(frames.Bind(session=1))]  # woken for the task, it would have seen that


def test_a_frames_attempts_are_1_unless_it_says_otherwise() -> None:
    assert list(held_of(frames.Tasks(task_ids=[4, 5]), [b"a", None])) == [
        (4, 1, b"a"),
        (5, 1, None),
    ]
    assert list(held_of(frames.Tasks(task_ids=[4], attempts=[3]), [b"a"])) == [(4, 3, b"a")]


def test_no_task_is_lost_or_done_twice_while_two_threads_pull() -> None:
    """The worker starts tasks while the other end takes them back and deals them again."""
    hand, count, done = Hand(), 20_000, []

    def work() -> None:
        while hand.wait() is None:
            while hand.tasks:
                try:
                    done.append(hand.tasks.popleft()[0])
                except IndexError:
                    break

    worker = threading.Thread(target=work)
    worker.start()
    taken: list[int] = []
    for first in range(1, count, 100):
        hand.deal((TaskId(i), 1, b"") for i in range(first, first + 100))
        taken += hand.take_back([first + 50, first + 99])
        taken += hand.take_back((), 3)
    hand.command(End())
    worker.join(20)
    assert not worker.is_alive()
    assert sorted(done + taken) == list(range(1, count + 1))
