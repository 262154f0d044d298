"""What an executor has to say: results, packed into frames, and words between them.

What has piled up goes out: while a frame is being written results gather, and the next frame takes
them all. The window, which follows from how long tasks take, is announced along with them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import repeat

from flame.executor_manager.hand import RIPE_AFTER, Hand
from flame.executor_manager.outbox import Outbox
from flame.executor_manager.window import Window
from flame.model.specs import WINDOW_AT_BINDING
from flame.wire import frames

RIPE_RESULTS = 512  # results that are sent though more are coming


class Outgoing:
    """The way out of one executor. On the I/O thread only.

    Args:
        held: Task id to attempt, of the tasks whose results are not in the outbox; packing results
            takes theirs out.
        speak: Called when there is something to send.

    Attributes:
        counts_windows: The session manager takes a new window from results, and knows of the
            window that every binding begins with.
        last_sent: When a frame was last written, by the loop's clock.
    """

    def __init__(
        self, hand: Hand, held: dict[int, int], speak: Callable[[], None], max_output_bytes: int
    ) -> None:
        self._hand = hand
        self._held = held
        self._speak = speak
        self._loop = asyncio.get_running_loop()
        self._max_output_bytes = max_output_bytes
        self._outbox = Outbox(max_output_bytes)
        self._words: deque[frames.ExecutorFrame] = deque()
        self._window = Window()
        self._announced = 0
        self._ripening: asyncio.TimerHandle | None = None
        self.counts_windows = False
        self.last_sent = 0.0

    @property
    def unstored(self) -> bool:
        """Whether there are results that the session manager has not stored."""
        return bool(len(self._outbox))

    def tell(self, frame: frames.ExecutorFrame) -> None:
        """Say something. Results that are not packed yet come after it."""
        self._words.append(frame)
        self._speak()

    def take_words(self) -> list[frames.ExecutorFrame]:
        """Return what was told since the last time, in order."""
        due = list(self._words)
        self._words.clear()
        return due

    def stored(self, sequence: int) -> None:
        """Forget the results up to this frame."""
        self._outbox.stored(sequence)
        self.announce()

    # --- beginning anew

    def rewind(self) -> tuple[dict[int, int], int]:
        """A new stream begins: what is unstored goes out again, what was said does not.

        Returns:
            The attempt of each task in the outbox, and the window, for the hello.
        """
        self.counts_windows = False  # until the welcome says so
        while self.pack():
            pass
        self._outbox.rewind()
        self._words.clear()
        self._announced = self._wanted()
        return self._outbox.unstored(), self._announced

    def rebind(self) -> None:
        """Another session begins, with frames numbered from 1."""
        self._outbox = Outbox(self._max_output_bytes)
        self._window.rebind()
        if self.counts_windows:
            self._announced = min(self._announced, WINDOW_AT_BINDING)

    # --- results

    def next_results(self) -> frames.ExecutorFrame | None:
        """Return the oldest packed frame that this stream has not carried."""
        return self._outbox.next_unsent()

    def is_ripe(self) -> bool:
        """Whether to pack results now, rather than with those that the next moment brings.

        While quick tasks are in hand results pile up for up to 4 ms, so that a frame holds many and
        the interpreter is left to the tasks. The main thread wakes us by the same rule.
        """
        finished = len(self._hand.finished)
        if not finished:
            return False
        if not self._hand.tasks or finished >= RIPE_RESULTS:
            return True
        if self._loop.time() - self.last_sent >= RIPE_AFTER / 1e9:
            return True
        # The main thread may be in a long task and not wake us for the results before it.
        if self._ripening is None:
            self._ripening = self._loop.call_later(RIPE_AFTER / 1e9, self._ripe)
        return False

    def _ripe(self) -> None:
        self._ripening = None
        self._speak()

    def pack(self) -> bool:
        """Make a frame of finished results; return whether there were any."""
        batch = self._outbox.take(self._hand.finished, self._hand.output.of)
        if batch is None:
            return False
        deque(map(self._held.pop, batch.task_ids, repeat(None)), maxlen=0)
        if self._hand.cancelled:
            self._hand.cancelled.difference_update(batch.task_ids)
        self._window.observe(len(batch.task_ids), batch.elapsed_ns, batch.input_bytes)
        wanted = self._wanted()
        if self.counts_windows and wanted and wanted != self._announced:
            self._announced = batch.frame.window = wanted
        else:
            self.announce()
        return True

    # --- the window

    def slow_task(self, elapsed_ns: int) -> None:
        """A task has been running this long and goes on."""
        if self._window.slow_task(elapsed_ns):
            self.announce()

    def announce(self) -> None:
        """Say how many tasks may come, if that has changed."""
        wanted = self._wanted()
        if wanted != self._announced:
            self._announced = wanted
            self.tell(frames.ExecutorFrame(window=frames.Window(tasks=wanted)))

    def _wanted(self) -> int:
        return 0 if self._outbox.full else self._window.tasks
