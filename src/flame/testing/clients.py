"""Simulated clients: one stream and one session each, with everything a client may do.

They follow the task channel's contract: submits are numbered without gaps and sent again until they
are accepted; outcomes are taken by position; both directions obey credit.
"""

from collections.abc import Callable
from typing import Any

from flame.core import effects, events
from flame.core.effects import AttachedView, TaskView
from flame.core.events import AttachmentId
from flame.core.outcome_log import OUTCOME_COST
from flame.core.records import StoredTask
from flame.model.errors import (
    FlameError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    WrongState,
)
from flame.model.ids import DEFAULT_TENANT, SessionNumber, TaskId
from flame.model.specs import Durability, SessionSpec, SessionState, TaskState
from flame.testing.manager import Manager
from flame.testing.service import limits_of
from flame.testing.witness import Broken, Witness
from flame.testing.world import Stream, World

#: How much of the log a client takes at a time, in bytes.
CREDIT = 1500
Result = tuple[object, object]  # output and failure


class Client:
    """Opens a session, submits, waits, perhaps cancels, watches and closes.

    Attributes:
        inputs: What it has submitted so far, by number.
        results: What each number's future resolved to.
    """

    def __init__(
        self,
        world: World,
        manager: Manager,
        witness: Witness,
        name: str,
        session: str,
        spec: SessionSpec,
    ) -> None:
        self.world = world
        self.manager = manager
        self.witness = witness
        self.name = name
        self.session = session
        self.spec = spec
        self.inputs: list[bytes] = []
        self.results: dict[int, Result] = {}
        self.watching: dict[TaskId, int] = {}  # how often such a watch was begun
        self.closed = False
        self.opened = False
        self.close_wanted: bool | None = None  # and whether running tasks are cancelled
        self._submitter = world.random.randbytes(16)
        self._own = True
        self._number = SessionNumber(0)
        self._stream: Stream | None = None
        self._attached = False
        self._position = 0
        self._credit = 0
        self._owed = 0
        self._sent = 0  # numbers below went out on this stream
        self._ids: dict[int, TaskId] = {}
        self._waiting: dict[TaskId, int] = {}
        self._early: dict[TaskId, Result] = {}
        self._cancelled: set[int] = set()
        self._over = False
        self._refused = False
        self._gap: int | None = None  # a number that was refused for want of room
        self._promised = spec.durability is not Durability.MEMORY  # that nothing is lost

    @property
    def done(self) -> bool:
        """Whether all of its futures are resolved and all of its calls answered."""
        return (
            len(self.results) == len(self.inputs)
            and not self.watching
            and (self.close_wanted is None or self.closed)
        )

    # --- opening and closing ---------------------------------------------------------------------

    def start(self) -> None:
        """Open the session, as often as it takes; then attach."""
        self.manager.call(
            lambda reply: events.OpenSession(DEFAULT_TENANT, self.session, self.spec, reply),
            self._opened,
        )

    def _opened(self, answer: Any) -> None:
        if isinstance(answer, Unavailable | NotFound | ResourceExhausted):
            self.world.after(self.world.random.uniform(0.05, 0.5), self.start)
        elif isinstance(answer, WrongState):
            self._end("closed before it was opened")
        elif isinstance(answer, FlameError):
            raise Broken(f"{self.name} could not open {self.session}: {answer!r}")
        else:
            self.opened = True
            self._number = answer.number
            self._connect()

    def close(self, cancel_running: bool) -> None:
        """Close the session; a refusal because of running tasks is tried again later."""
        self.close_wanted = cancel_running
        self.world.note(self.name, "closes", self.session, cancel_running)
        self.manager.call(
            lambda reply: events.CloseSession(DEFAULT_TENANT, self.session, cancel_running, reply),
            self._close_answered,
        )

    def _close_answered(self, answer: Any) -> None:
        if isinstance(answer, Unavailable | WrongState | ResourceExhausted):
            self.world.after(
                self.world.random.uniform(0.1, 2.0), self.close, bool(self.close_wanted)
            )
        elif isinstance(answer, NotFound):
            self.closed = True  # never opened
        elif isinstance(answer, FlameError) or answer.state is not SessionState.CLOSED:
            raise Broken(f"the close of {self.session} was answered with {answer!r}")
        else:
            self.closed = True
            if answer.pending or answer.running:
                raise Broken(f"{self.session} is closed with tasks that are not final: {answer}")

    # --- submitting ------------------------------------------------------------------------------

    def submit(self, values: list[bytes]) -> None:
        """Have tasks done."""
        self.inputs.extend(values)
        if self._refused or self._over:
            self._refuse_the_rest()
        else:
            self._send()

    def _refuse_the_rest(self) -> None:
        """The session is being closed: what is not accepted, and all after it, never will be."""
        for number in range(len(self.inputs)):
            if number not in self._ids and number not in self.results:
                self._resolve(number, (None, "refused"))

    def cancel(self, count: int) -> None:
        """Cancel some of the tasks that are not final."""
        chosen = list(self._waiting)
        self.world.random.shuffle(chosen)
        ids = chosen[:count]
        if ids and self._attached and self._stream is not None:
            self.world.note(self.name, "cancels", ids)
            self._cancelled.update(self._waiting[i] for i in ids)
            self._stream.to_manager(events.CancelTasks(AttachmentId(0), ids + ids[:1], None))

    def disconnect(self) -> None:
        """Break the stream."""
        if self._stream is not None:
            self._stream.cut()

    def _connect(self) -> None:
        if self._stream is not None or self.closed_for_good:
            return
        self._stream = Stream(self.world, self, self.manager)
        self.manager.accept(self._stream)
        self._stream.to_manager(
            events.Attach(
                AttachmentId(0),
                DEFAULT_TENANT,
                self.session,
                self._submitter,
                True,
                self._position,
                CREDIT,
                None,
                self._own,
            )
        )
        self._owed = 0

    @property
    def closed_for_good(self) -> bool:
        """Whether there is nothing more to expect."""
        return self._over

    def ended(self, stream: Stream) -> None:
        """The stream is over: open another."""
        if stream is self._stream:
            self._stream = None
            self._attached = False
            self.world.after(self.world.random.uniform(0.01, 1.0), self._connect)

    def _send(self) -> None:
        while (
            self._attached
            and self._stream is not None
            and not self._refused
            and self._gap is None
            and self._sent < len(self.inputs)
        ):
            first = self._sent
            batch: list[bytes | None] = []
            limit = self.world.random.randint(1, 20)
            while first + len(batch) < len(self.inputs) and len(batch) < limit:
                value = self.inputs[first + len(batch)]
                cost = OUTCOME_COST + len(value)
                if cost > self._credit:
                    break
                self._credit -= cost
                batch.append(value)
            if not batch:
                return
            self._sent += len(batch)
            limits = {i: own for i, value in enumerate(batch) if (own := limits_of(value))}
            self._stream.to_manager(events.SubmitTasks(AttachmentId(0), first, batch, limits))

    # --- hearing ---------------------------------------------------------------------------------

    def received(self, stream: Stream, message: Any) -> None:
        """Take what the manager says."""
        if stream is not self._stream:
            return
        match message:
            case AttachedView():
                self._on_attached(message)
            case effects.Accepted():
                self._credit += message.credit
                for index in range(message.count):
                    self._on_accepted(
                        message.first_number + index, TaskId(message.first_id + index)
                    )
                self._send()
            case effects.SubmitRefused() if self._is_for_want_of_room(message):
                self._gap = message.first_number if self._gap is None else self._gap
                if message.first_number + message.count == self._sent:  # nothing is on its way
                    self.world.after(self.world.random.uniform(0.1, 2.0), self._try_again, stream)
            case effects.SubmitRefused():
                if not isinstance(message.error, WrongState) and not self._refused:
                    raise Broken(f"{self.name}: a submit was refused: {message.error!r}")
                self._refused = True
                self._refuse_the_rest()
            case effects.GrantSubmits():
                self._credit += message.credit
                self._send()
            case effects.SendOutcomes():
                self._on_outcomes(message)
            case effects.SendSessionClosed():
                if self._waiting:
                    raise Broken(
                        f"{self.name}: {self.session} is closed, and {list(self._waiting)[:9]} "
                        "have no outcome"
                    )
            case FlameError():
                self._end(f"attach refused: {message}")

    def _is_for_want_of_room(self, refusal: effects.SubmitRefused) -> bool:
        """Whether the disk is full, or was for the numbers before these."""
        is_behind = self._gap is not None and refusal.first_number > self._gap
        return isinstance(refusal.error, ResourceExhausted) or is_behind

    def _try_again(self, stream: Stream) -> None:
        """Send what was refused, and all behind it, once more."""
        if stream is self._stream and self._gap is not None:
            self._sent, self._gap = self._gap, None
            self._send()

    def _on_attached(self, view: AttachedView) -> None:
        if not self._promised and view.submitted < len(self._ids):
            self._end("its session was kept in memory")
            return
        if view.submitted < len(self._ids):
            raise Broken(f"{self.name}: {len(self._ids)} were accepted, {view.submitted} are known")
        self._attached = True
        self._credit = view.submit_credit
        self._sent, self._gap = 0, None
        while self._sent in self._ids:
            self._sent += 1
        self._send()

    def _on_accepted(self, number: int, task_id: TaskId) -> None:
        known = self._ids.setdefault(number, task_id)
        if known != task_id:
            raise Broken(f"{self.name}: submit {number} is task {known}, and then {task_id}")
        self.witness.accepted(self._number, self._submitter, number, task_id, self.inputs[number])
        if number not in self.results:
            self._waiting[task_id] = number
            if task_id in self._early:
                del self._waiting[task_id]
                self._resolve(number, self._early.pop(task_id))

    def _on_outcomes(self, message: effects.SendOutcomes) -> None:
        if message.position < self._position and self._promised:
            raise Broken(
                f"{self.name}: outcomes from {message.position} came, {self._position} was next"
            )
        cost = 0
        for index, task_id in enumerate(message.task_ids):
            output, failure = message.outputs[index], message.failures.get(index)
            self.witness.delivered(self._number, message.position + index, task_id, output, failure)
            cost += OUTCOME_COST + len(output or b"")
            number = self._waiting.pop(task_id, None)
            if number is not None:
                self._resolve(number, (output, failure))
            else:
                self._early[task_id] = (output, failure)
        self._position = message.position + len(message.task_ids)
        self._owed += cost
        self.world.after(self.world.random.uniform(0.0, 0.01), self._grant)

    def _grant(self) -> None:
        if self._attached and self._stream is not None and self._owed:
            owed, self._owed = self._owed, 0
            self._stream.to_manager(events.GrantOutcomes(AttachmentId(0), self._position, owed))

    def _resolve(self, number: int, result: Result) -> None:
        if number in self.results:
            raise Broken(f"{self.name}: future {number} resolves a second time")
        failure = result[1]
        if isinstance(failure, tuple) and failure[0] is TaskState.CANCELLED:
            kept = self.witness.sessions.get(self._number)
            open_still = kept is not None and kept.put.state is SessionState.OPEN
            if number not in self._cancelled and open_still and "closed" not in failure[2]:
                raise Broken(f"{self.name}: nobody cancelled submit {number}")
        self.results[number] = result

    def _end(self, reason: str) -> None:
        """Nothing more comes: resolve what is left."""
        self.world.note(self.name, "ends:", reason)
        if self._promised and self._ids:
            raise Broken(f"{self.name}: {reason}, with {len(self._ids)} tasks accepted")
        for number in range(len(self.inputs)):
            if number not in self.results:
                self._resolve(number, (None, reason))
        self._waiting.clear()
        self._attached = False
        self._over = True

    # --- watching --------------------------------------------------------------------------------

    def watch(self) -> None:
        """Watch one of its accepted tasks until it is final."""
        if self._ids:
            task_id = self.world.random.choice(sorted(self._ids.values()))
            self._watch(task_id)

    def _watch(self, task_id: TaskId) -> None:
        self.watching[task_id] = self.watching.get(task_id, 0) + 1
        begun = self.watching[task_id]
        self.manager.watch(self.session, task_id, self._seen_of(task_id, begun))

    def _seen_of(self, task_id: TaskId, begun: int) -> Callable[[Any], None]:
        def seen(view: TaskView | StoredTask | FlameError) -> None:
            if self.watching.get(task_id) != begun:
                return
            if isinstance(view, FlameError):
                if not self._promised:
                    del self.watching[task_id]
                    return
                self.world.after(self.world.random.uniform(0.05, 1.0), self._watch, task_id)
            elif view.state.is_final:
                del self.watching[task_id]
                kept = self.witness.sessions.get(self._number)
                outcome = kept.outcomes.get(task_id) if kept is not None else None
                if self._number not in self.witness.forgotten and (
                    outcome is None
                    or (outcome.output, outcome.failure) != (view.output, view.failure)
                ):
                    raise Broken(
                        f"a watcher of task {task_id} was told {view}; {outcome} is stored"
                    )

        return seen

    def power_lost(self, taken: set[SessionNumber]) -> None:
        """Nothing is promised of these sessions any more: begin again, if its own is among them."""
        if self.opened and self._number in taken and not self._over:
            self._promised = False
            self.watching.clear()
            if self.close_wanted is not None:
                self._end("a loss of power took what was not synced")
                self.closed = True
            else:
                self._start_over()

    def _start_over(self) -> None:
        """Be another submitter: the numbers of tasks that were lost go to the new ones."""
        self.world.note(self.name, "starts over")
        for number in range(len(self.inputs)):
            if number not in self.results:
                self._resolve(number, (None, "lost"))
        for table in (self.inputs, self.results, self._ids, self._waiting, self._early):
            table.clear()
        self._cancelled.clear()
        self._submitter = self.world.random.randbytes(16)
        self._own = False
        self._position = self._sent = 0
        self._attached, self._gap = False, None
        self.submit(
            [f"ok:{self.name}:again{i}".encode() for i in range(self.world.random.randint(1, 30))]
        )

    def manager_died(self) -> None:
        """Its watches were broken off: begin them again."""
        for task_id in list(self.watching):
            self.world.after(self.world.random.uniform(0.05, 1.0), self._watch, task_id)
