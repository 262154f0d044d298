"""What an executor is bound to and holds, whatever becomes of its stream.

    bind ─▶ bind result ─▶ tasks / results / take back ... ─▶ unbind ─▶ left
     └▶ bind and tasks at once, if the service is known to enter quickly

A stream may break at any moment, and a session manager may restart. So the truth is kept here, not
in the stream: which tasks are held, which results are not stored. A new stream starts with a hello
that says what is held; unstored results follow under their old numbers; nothing else that was on its
way matters any more.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from operator import itemgetter

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.cell import Cell
from flame.executor_manager.hand import Enter, Hand, Leave, held_of
from flame.executor_manager.outgoing import Outgoing
from flame.wire import frames
from flame.wire.batches import unpack

log = logging.getLogger(__name__)

STARTED_AFTER = 10_000_000  # ns after which a task is reported as started

_ATTEMPT_OF = itemgetter(0, 1)  # of a held task: (its id, its attempt)


class Binding:
    """One executor's binding and tasks. On the I/O thread, but for ``entered``.

    Args:
        speak: Called when there is something to send.
        refused: Called once when the session manager wants nothing more of this executor.

    Attributes:
        stored: Set when results were stored.
    """

    def __init__(
        self,
        assignment: Assignment,
        hand: Hand,
        cell: Cell,
        speak: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        self._assignment = assignment
        self._hand = hand
        self._cell = cell
        self._speak = speak
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._incarnation = assignment.incarnation
        self._session = 0
        self._bound = False
        self._binding = False
        #: How a binding went; put here by the main thread before any result of that session.
        self._entered: deque[tuple[int, int, str]] = deque()
        self._left_due = False
        self._held: dict[int, int] = {}  # task id -> attempt; until its result is in the outbox
        self.outgoing = Outgoing(hand, self._held, speak, assignment.max_output_bytes)
        self._reported = (0, 0)  # the (task, attempt) last reported as started
        self._look: asyncio.TimerHandle | None = None
        self.stored = asyncio.Event()

    @property
    def owes_results(self) -> bool:
        """Whether results are not stored yet."""
        return bool(self._hand.finished) or self.outgoing.unstored

    def entered(self, incarnation: int, code: int, message: str) -> None:
        """The main thread's word on how the binding went: code 0, or it failed."""
        self._entered.append((incarnation, code, message))

    def left(self) -> None:
        """The main thread has left the session; its results may still be on their way."""
        self._left_due = True
        self._speak()

    # --- saying

    def hello(self) -> frames.ExecutorFrame:
        """Return the first frame of a stream, which makes all that was on its way obsolete."""
        self._take_entered()
        unstored, window = self.outgoing.rewind()
        self._reported = (0, 0)
        running = self._cell.read()
        if running is not None and running.task_id not in self._held:
            running = None
        in_hand = {**unstored, **self._held}
        return frames.ExecutorFrame(
            hello=frames.ExecutorHello(
                executor=self._assignment.executor,
                incarnation=self._incarnation,
                bound=self._bound,
                session=self._session if self._bound else 0,
                window=window,
                task_ids=in_hand.keys(),
                attempts=in_hand.values(),
                running=running.task_id if running is not None else 0,
                running_ms=(
                    (time.monotonic_ns() - running.started) // 1_000_000
                    if running is not None
                    else 0
                ),
                gpu_ids=self._assignment.gpu_ids,
                takes_early_tasks=True,
            )
        )

    def next_frames(self) -> list[frames.ExecutorFrame]:
        """Return what goes out together: all there is to say, and one frame of results."""
        results = self.outgoing.next_results()
        ripe = results is None and self.outgoing.is_ripe()
        # How the binding went is told before its results, which were put down later. A new
        # window, too, goes first: the results make room for more tasks.
        self._take_entered()
        if ripe:
            self.outgoing.pack()
            results = self.outgoing.next_results()
        due = self.outgoing.take_words()
        if results is not None:
            due.append(results)
        elif not due and self._left_due and not self.outgoing.unstored:
            # After the last result is stored, so that a reused process starts with nothing.
            self._left_due = self._bound = False
            self._session = 0
            self._held.clear()
            due.append(self._left_frame())
        return due

    def _left_frame(self) -> frames.ExecutorFrame:
        return frames.ExecutorFrame(left=frames.Left(incarnation=self._incarnation))

    def _take_entered(self) -> None:
        """Tell how the binding went, if that is news."""
        while self._entered:
            self._on_entered(*self._entered.popleft())

    def _on_entered(self, incarnation: int, code: int, message: str) -> None:
        if incarnation != self._incarnation:
            return  # a newer Bind came meanwhile and is next
        self._binding = False
        self._bound = code == 0
        if not self._bound:
            self._held.clear()  # the main thread gave up what came with the binding
        self.outgoing.announce()  # first, as tasks come at once when the binding is told
        self._tell_bound(incarnation, code, message)

    def _tell_bound(self, incarnation: int, code: int, message: str) -> None:
        result = frames.BindResult(
            incarnation=incarnation,
            return_code=code,
            message=message.encode("utf-8", "replace").decode(),
        )
        self.outgoing.tell(frames.ExecutorFrame(bind_result=result))

    # --- obeying

    def obey(self, order: frames.ExecutorOrder) -> None:
        """Do what the session manager says, after its welcome."""
        match order.WhichOneof("frame"):
            case "tasks":
                self._on_tasks(order.tasks)
            case "results_stored":
                self._on_stored(order.results_stored.sequence)
            case "take_back":
                self._on_take_back(order.take_back)
            case "cancel":
                self._hand.cancelled.update(
                    task for task in order.cancel.task_ids if task in self._held
                )
            case "bind":
                self._on_bind(order.bind)
            case "unbind":
                if self._bound or self._binding:
                    self._hand.command(Leave())
                else:
                    self.outgoing.tell(self._left_frame())
            case "refusal":
                self.on_refusal(order.refusal)
            case "heartbeat" | "welcome":
                pass
            case other:
                log.warning("order-unknown frame=%s", other)  # of a newer session manager

    def on_refusal(self, refusal: frames.Refusal) -> None:
        """The session manager does not want something, or (``closing``) anything, of us."""
        log.warning("refused code=%s message=%r", refusal.code, refusal.message)
        if refusal.closing:
            self._refused(f"{refusal.code}: {refusal.message}")

    def _on_stored(self, sequence: int) -> None:
        self.outgoing.stored(sequence)
        self.stored.set()
        if self._left_due:
            self._speak()

    def _on_tasks(self, tasks: frames.Tasks) -> None:
        if tasks.results_stored:
            self._on_stored(tasks.results_stored)
        dealt = list(held_of(tasks, unpack(tasks.inputs, tasks.absent)))
        held = self._held
        if held and not held.keys().isdisjoint(tasks.task_ids):
            # Sent again after a broken connection: what is in hand stays where it is.
            dealt = [task for task in dealt if held.get(task[0]) != task[1]]
        held.update(map(_ATTEMPT_OF, dealt))
        if tasks.noted:
            fresh = {task[0] for task in dealt}
            for index, said in zip(tasks.noted, tasks.notes, strict=True):
                if tasks.task_ids[index] in fresh:
                    self._hand.notes[tasks.task_ids[index]] = said
        self._hand.deal(dealt)
        self.watch_running()

    def _on_take_back(self, order: frames.TakeBack) -> None:
        taken = self._hand.take_back(order.task_ids, order.count)
        for task_id in taken:
            self._held.pop(task_id, None)
            self._hand.notes.pop(task_id, None)
        self._hand.cancelled.difference_update(taken)
        self.outgoing.tell(
            frames.ExecutorFrame(taken_back=frames.TakenBack(request=order.request, task_ids=taken))
        )

    def _on_bind(self, bind: frames.Bind) -> None:
        if bind.incarnation == self._incarnation and self._binding:
            return  # repeated after a broken connection; its result is on the way
        if bind.incarnation == self._incarnation and self._bound and bind.session == self._session:
            self._tell_bound(bind.incarnation, 0, "")
            return
        self._incarnation = bind.incarnation
        self._session = bind.session
        self._binding, self._bound, self._left_due = True, False, False
        self._held.clear()
        # Should there be any, this session's service is not for them.
        self._hand.take_back((), sys.maxsize)
        self._reported = (0, 0)  # the numbers of tasks begin again in each session
        self.outgoing.rebind()
        self._hand.command(Enter(bind))

    # --- slow tasks

    def watch_running(self) -> None:
        """See to it that somebody looks at the running task while there are tasks in hand."""
        if self._look is None and self._held:
            self._look = self._loop.call_later(STARTED_AFTER / 1e9, self._look_at_running)

    def _look_at_running(self) -> None:
        """Report a task that has been running for a while. One timer, whatever the tasks."""
        self._look = None
        if not self._held:
            return
        if self._hand.finished or self._entered:
            self._speak()  # of quick tasks before a long one; the main thread did not wake us
        delay = STARTED_AFTER
        running = self._cell.read()
        if running is not None and running.task_id in self._held:
            age = time.monotonic_ns() - running.started
            if age < STARTED_AFTER:
                delay = STARTED_AFTER - age
            elif (running.task_id, running.attempt) != self._reported:
                self._reported = (running.task_id, running.attempt)
                self.outgoing.tell(
                    frames.ExecutorFrame(
                        started=frames.Started(task_id=running.task_id, attempt=running.attempt)
                    )
                )
                self.outgoing.slow_task(age)
        self._look = self._loop.call_later(max(delay, 1_000_000) / 1e9, self._look_at_running)
