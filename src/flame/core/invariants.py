"""What is true of a cluster's state between any two events.

Every index is derived again from what it indexes, and compared. The simulator calls :func:`check`
after every event; it costs as much as the state is large, so nobody else does.
"""

from collections.abc import Iterator
from itertools import pairwise

from flame.core.backlog import Backlog
from flame.core.executor import Executor
from flame.core.node import Node
from flame.core.reports import KEPT, demand, holding_of, machine_of
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import FINISHING, HELD, QUEUED, STARTED
from flame.core.task_limits import next_due, timeout_of
from flame.model.ids import SessionNumber
from flame.model.resources import Resources
from flame.model.specs import ExecutorState, NodeState, SessionState
from flame.scheduling.ledger import Ledger
from flame.scheduling.tree import Leaf

_WITH_SESSION = (ExecutorState.BINDING, ExecutorState.BOUND, ExecutorState.UNBINDING)
_WITHOUT_SESSION = (ExecutorState.IDLE, ExecutorState.RELEASING)


def check(state: State) -> None:
    """Compare every index with what it should say.

    Raises:
        AssertionError: One differs; the text names the thing, what is there and what should be.
    """
    for problem in problems(state):
        raise AssertionError(problem)


def problems(state: State) -> Iterator[str]:
    """Yield a sentence for everything that is not as it should be."""
    yield from _names(state)
    for session in state.sessions.values():
        yield from _counts(session)
        yield from _hands(session)
        yield from _standby(session)
        yield from _log(session)
        yield from _submitters(session)
        yield from _attachments(state, session)
        yield from _closing(session)
        if session.spec.batch_size > 1 and session.number not in state.touched_gangs:
            yield from _gangs(session)
    for executor in state.executors.values():
        yield from _executor(state, executor)
    for node in state.nodes.values():
        yield from _node(state, node)
    for identity, attachment in state.attachments.items():
        session_of = state.sessions.get(attachment.session)
        if session_of is None or session_of.attachments.get(identity) is not attachment:
            yield f"attachment {identity} is unknown to its session {attachment.session}"
    yield from _backlogs(state)
    yield from _waits(state)
    yield from _ledger(state)


def _names(state: State) -> Iterator[str]:
    for key, session in state.names.items():
        if key != (session.tenant, session.name):
            yield f"name {key} leads to session {session.number}, named {session.name!r}"
        if state.sessions.get(session.number) is not session:
            yield f"name {key} leads to session {session.number}, which is not there"
    if len(state.names) != len(state.sessions):
        yield f"{len(state.sessions)} sessions have {len(state.names)} names"
    for number, session in state.sessions.items():
        if session.number != number or number >= state.next_session:
            yield f"session {session.number} is kept under {number}; next is {state.next_session}"


def _counts(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    queued = {t.id: t for t in session.queue if t.stage == QUEUED}
    live = {t.id for t in session.live.values() if t.stage == QUEUED}
    if set(queued) != live:
        yield f"{who}: tasks {sorted(live ^ set(queued))[:9]} are QUEUED or in the queue, not both"
    if session.queued != len(live):
        yield f"{who}: queued is {session.queued}; {len(live)} tasks are QUEUED"
    size = sum(len(t.input or b"") for t in queued.values())
    if session.queued_bytes != size:
        yield f"{who}: queued_bytes is {session.queued_bytes}; the QUEUED tasks have {size}"
    started = [t for t in session.live.values() if t.stage == STARTED]
    if session.running != len(started):
        yield f"{who}: running is {session.running}; {len(started)} tasks are STARTED"
    for task_id, task in session.live.items():
        if task.id != task_id or not 1 <= task_id < session.next_id:
            yield f"{who}: task {task.id} is live as {task_id}; next id is {session.next_id}"
        known = session.history.get(task_id)
        lost = task.attempts - (known[-1].raised if known else 0)
        if task.stage != FINISHING and lost >= session.spec.max_attempts:
            yield f"{who}: task {task_id} goes on after {task.attempts} attempts"
        if (known[-1].number if known else 0) != task.attempts:
            yield f"{who}: task {task_id} spent {task.attempts} attempts; its history: {known}"
    for task_id in session.watchers:
        if task_id not in session.live:
            yield f"{who}: task {task_id} is watched but not live"
        if not session.watchers[task_id]:
            yield f"{who}: an empty list of watchers is kept for task {task_id}"
    final = session.succeeded + session.failed + session.cancelled
    if final != session.log_end:
        yield f"{who}: {final} final tasks are counted; its log holds {session.log_end}"
    if session.log_end + len(session.live) > session.next_id - 1:
        yield (
            f"{who}: {session.log_end} final and {len(session.live)} live tasks; "
            f"only {session.next_id - 1} have ids"
        )
    if session.state is SessionState.CLOSED and session.live:
        yield f"{who} is closed with {len(session.live)} live tasks, {min(session.live)} first"


def _backlogs(state: State) -> Iterator[str]:
    """Every tenant's counts are those of its sessions and of the tenants below it."""
    sums: dict[Backlog, tuple[int, int, int]] = {}
    for session in state.sessions.values():
        is_open = int(session.state is SessionState.OPEN)
        backlog: Backlog | None = session.backlog
        if backlog is not state.backlogs.of(session.tenant):
            yield f"session {session.number} counts in another backlog than its tenant's"
        while backlog is not None:
            tasks, size, sessions = sums.get(backlog, (0, 0, 0))
            sums[backlog] = (
                tasks + session.queued,
                size + session.queued_bytes,
                sessions + is_open,
            )
            backlog = backlog.above
    for backlog in (state.backlogs.cluster, *state.backlogs.by_tenant.values()):
        have = (backlog.tasks, backlog.size, backlog.sessions)
        if have != sums.get(backlog, (0, 0, 0)):
            yield f"backlog {backlog.name!r} has {have}; its sessions {sums.get(backlog)}"


def _hands(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    holders: dict[int, Executor] = {}
    for executor in session.executors.values():
        if executor.session is not session:
            yield f"{who}: executor {executor.id} is listed but serves another"
        for task_id, task in executor.held.items():
            if task_id in holders:
                yield f"{who}: task {task_id} is in two hands"
            holders[task_id] = executor
            live = session.live.get(task_id)
            if task.stage == FINISHING:
                continue  # cancelled; the executor has not given it up yet
            if live is not task:
                yield f"{who}: executor {executor.id} holds task {task_id}, which is not live"
            if task.stage == QUEUED:
                yield f"{who}: task {task_id} is QUEUED and held by {executor.id}"
            if task.holder is not executor:
                yield f"{who}: task {task_id} is held by {executor.id} and names another holder"
        started = executor.started
        if started is not None and (
            started.stage != STARTED or executor.held.get(started.id) is not started
        ):
            yield f"{who}: executor {executor.id} runs task {started.id}, which is not STARTED there"
        if executor.is_usable:
            for what, index, belongs in (
                ("roomy", session.roomy, len(executor.held) < executor.window),
                ("empty", session.empty, not executor.held and executor.window > 0),
                ("ahead", session.ahead, len(executor.held) > 1),
            ):
                if belongs and executor.id not in index:
                    yield f"{who}: executor {executor.id} is missing in {what}"
        if executor.state is ExecutorState.BINDING and executor.id not in session.starting:
            yield f"{who}: executor {executor.id} is missing in starting"
    for index in (session.roomy, session.empty, session.ahead, session.starting):
        if index.keys() - session.executors.keys():
            yield f"{who}: {sorted(index.keys() - session.executors.keys())[:9]} have left it"
    for task_id, task in session.live.items():
        if task.stage == STARTED and (task.holder is None or task.holder.started is not task):
            yield f"{who}: task {task_id} is STARTED; its executor does not say so"
        if task.stage == HELD and task.holder is not None and task_id not in holders:
            yield f"{who}: task {task_id} is HELD by {task.holder.id}, which has left"
        if task.stage == QUEUED and (task.holder is not None or task_id in holders):
            yield f"{who}: task {task_id} is QUEUED and has a holder"


def _standby(session: Session) -> Iterator[str]:
    standing_by = [e for e in session.executors.values() if e.standby]
    if session.standing_by != len(standing_by):
        yield (
            f"session {session.number}: {len(standing_by)} executors stand by; "
            f"{session.standing_by} are counted"
        )
    for executor in standing_by:
        if executor.state is not ExecutorState.BOUND or executor.held or executor.gang:
            yield f"executor {executor.id} stands by, {executor.state.name}, with {executor.held}"


def _log(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    if not 0 <= session.log_end <= session.next_position:
        yield f"{who}: its log ends at {session.log_end}; next is {session.next_position}"
    if session.acknowledged > session.log_end:
        yield f"{who}: {session.acknowledged} outcomes are acknowledged of {session.log_end}"
    finishing = sum(t.stage == FINISHING for t in session.live.values())
    if session.next_position - session.log_end != finishing:
        yield (
            f"{who}: {session.next_position - session.log_end} outcomes are being stored; "
            f"{finishing} live tasks are FINISHING"
        )


def _submitters(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    ids: list[tuple[int, int]] = []
    for key, submitter in session.submitters.items():
        number = 0
        for known in submitter.ids_of(0, submitter.next_number):
            if known.first_number != number or known.count < 1:
                yield f"{who}: submitter {key.hex()} has {known} where {number} is next"
            number = known.first_number + known.count
            ids.append((known.first_id, known.first_id + known.count))
        if number != submitter.next_number:
            yield f"{who}: submitter {key.hex()} ends at {number}, not {submitter.next_number}"
    ids.sort()
    for (_, end), (start, _) in pairwise(ids):
        if start < end:
            yield f"{who}: task {start} belongs to two submits"
    if ids and ids[-1][1] > session.next_id:
        yield f"{who}: task {ids[-1][1] - 1} was submitted; next id is {session.next_id}"


def _attachments(state: State, session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    for identity, attachment in session.attachments.items():
        if attachment.id != identity or state.attachments.get(identity) is not attachment:
            yield f"{who}: attachment {identity} is unknown to the cluster"
        if attachment.cursor > session.log_end:
            yield f"{who}: attachment {identity} was sent {attachment.cursor} of {session.log_end}"
        if attachment.taken > attachment.cursor:
            yield f"{who}: attachment {identity} took {attachment.taken} of {attachment.cursor}"


def _closing(session: Session) -> Iterator[str]:
    who = f"session {session.number}"
    if session.closing is not None and session.storing_close:
        yield f"{who} waits for its close and stores it"
    if session.state is SessionState.CLOSED and not session.storing_close and session.closing:
        yield f"{who} is closed and waits for its close"
    for executor_id in session.unreported:
        if session.state is SessionState.OPEN and executor_id in session.executors:
            executor = session.executors[executor_id]
            if executor.held or executor.state is not ExecutorState.BINDING:
                yield f"{who}: executor {executor_id} has reported and is waited for"


def _gangs(session: Session) -> Iterator[str]:
    """No part of a gang goes on alone, but for executors that have not told what they hold."""
    if session.state is not SessionState.OPEN:
        return
    gangs: dict[int, list[Executor]] = {}
    for executor in session.executors.values():
        if executor.state in KEPT:
            gangs.setdefault(executor.gang, []).append(executor)
    for gang, members in gangs.items():
        awaited = all(e.id in session.unreported for e in members)
        if not awaited and (not gang or len(members) != session.spec.batch_size):
            names = sorted(e.id for e in members)
            yield f"session {session.number}: of gang {gang} there are only {names}"


def _executor(state: State, executor: Executor) -> Iterator[str]:
    who = f"executor {executor.id}"
    session, node = executor.session, state.nodes.get(executor.node)
    if node is None or node.executors.get(executor.id) is not executor:
        yield f"{who} is unknown to its node {executor.node}"
    if executor.state in _WITH_SESSION:
        if session is None or session.executors.get(executor.id) is not executor:
            yield f"{who} is {executor.state.name} and unknown to its session"
    elif executor.state in _WITHOUT_SESSION:
        if session is not None or executor.held:
            yield f"{who} is {executor.state.name} with a session or {len(executor.held)} tasks"
    else:
        yield f"{who} is {executor.state.name} and still listed"
    serving = [s.number for s in state.sessions.values() if executor.id in s.executors]
    if len(serving) > 1:
        yield f"{who} serves sessions {serving}"
    if executor.incarnation >= state.next_incarnation:
        yield f"{who} has incarnation {executor.incarnation}; next is {state.next_incarnation}"
    if executor.early and executor.state is not ExecutorState.BINDING:
        yield f"{who} is {executor.state.name} and takes tasks before it has entered"
    if executor.stored > executor.recorded:
        yield f"{who}: results are stored to {executor.stored}, taken to {executor.recorded}"


def _node(state: State, node: Node) -> Iterator[str]:
    who = f"node {node.name}"
    used = Resources()
    for executor_id, executor in node.executors.items():
        used = used + executor.resources
        if state.executors.get(executor_id) is not executor or executor.node != node.name:
            yield f"{who}: executor {executor_id} is listed and elsewhere"
    gpu_ids = [one for e in node.executors.values() for one in e.gpu_ids]
    if len(set(gpu_ids)) < len(gpu_ids):
        yield f"{who}: two of its executors have the same GPU: {sorted(gpu_ids)}"
    if used != node.used:
        yield f"{who}: {node.used} are used; its executors take {used}"
    if node.state is NodeState.READY and not used.fits_in(node.capacity):
        yield f"{who}: {used} are used of {node.capacity}"
    if (node.state is NodeState.READY) != node.connected:
        yield f"{who} is {node.state.name}, connected {node.connected}"


def _waits(state: State) -> Iterator[str]:
    """Whoever waits for something that may never come has a deadline."""
    due = {key for key, _ in state.deadlines.items()}
    for node in state.nodes.values():
        if node.state is NodeState.NOT_READY:
            if ("forget", node.name) not in due:
                yield f"node {node.name} is lost and will never be forgotten"
        elif ("lease", node.name) not in due:
            yield f"node {node.name} is {node.state.name} without a lease"
    for executor in state.executors.values():
        who = f"executor {executor.id}, {executor.state.name},"
        if executor.state is ExecutorState.BINDING and ("bind", executor.id) not in due:
            yield f"{who} has no deadline for its binding"
        if executor.state is ExecutorState.RELEASING and ("stop", executor.id) not in due:
            yield f"{who} has no deadline for its end"
        if (
            executor.state in (ExecutorState.BOUND, ExecutorState.UNBINDING, ExecutorState.IDLE)
            and not executor.connected
            and ("reconnect", executor.id) not in due
        ):
            yield f"{who} is away without a deadline"
        is_idle = executor.standby or executor.state is ExecutorState.IDLE
        if is_idle and ("idle", executor.id) not in due:
            yield f"{who} has no deadline for its release"
        if executor.doomed is not None and ("kill", executor.id) not in due:
            yield f"{who} has a task that is final and no deadline to give it up"
        started = executor.started
        if (
            started is not None
            and executor.session is not None
            and timeout_of(executor.session, started)
            and ("timeout", executor.id) not in due
        ):
            yield f"{who} runs task {started.id} without a timeout"
    for session in state.sessions.values():
        if session.resting and ("rest", session.number) not in due:
            yield f"session {session.number} has tasks that rest for ever"
        if next_due(session) is not None and ("deadline", session.number) not in due:
            yield f"session {session.number} has tasks and no deadline"
        closing = session.closing
        if closing is not None and closing.begun and ("close", session.number) not in due:
            yield f"session {session.number} waits for its close without a deadline"


def _ledger(state: State) -> Iterator[str]:
    """The scheduler sees the cluster as it is, but for what it is told before its next plan."""
    ledger = state.ledger
    for name, node in state.nodes.items():
        if name in state.touched_nodes:
            continue
        room = ledger.rooms.by_node.get(name)
        if (room.machine if room is not None else None) != machine_of(state, node):
            yield f"node {name}: the ledger has {room and room.machine}, it is {machine_of(state, node)}"
    for name in ledger.rooms.by_node:
        if name not in state.nodes and name not in state.touched_nodes:
            yield f"node {name} is gone; the ledger still has it"
    for executor_id, executor in state.executors.items():
        if executor_id in state.touched_executors or executor.node in state.touched_nodes:
            continue
        holding = ledger.holdings.get(executor_id)
        if holding != holding_of(executor):
            yield f"executor {executor_id}: the ledger has {holding}, it is {holding_of(executor)}"
    for executor_id in ledger.holdings:
        if executor_id not in state.executors and executor_id not in state.touched_executors:
            yield f"executor {executor_id} is gone; the ledger still has it"
    for number, session in state.sessions.items():
        if number in state.touched_sessions:
            continue
        leaf = ledger.leaves.get(number)
        if (leaf is not None) != (session.state is SessionState.OPEN):
            yield f"session {number} is {session.state.name}; the ledger has {leaf}"
        elif leaf is not None and leaf.wish.wanted > demand(state, session):
            yield f"session {number}: the ledger has {leaf.wish}, it wants {demand(state, session)}"
    for number in ledger.leaves:
        if number not in state.sessions and number not in state.touched_sessions:
            yield f"session {number} is gone; the ledger still has it"
    yield from _rooms(ledger)


def _rooms(ledger: Ledger) -> Iterator[str]:
    """The ledger's sums are those of what it was told and what it expects."""
    for name, room in ledger.rooms.by_node.items():
        taken = leaving = Resources()
        kept: dict[SessionNumber, int] = {}
        for holding in ledger.holdings.values():
            if holding.node != name:
                continue
            taken = taken + holding.resources
            if holding.leaving:
                leaving = leaving + holding.resources
            elif holding.session in ledger.leaves:
                kept[holding.session] = kept.get(holding.session, 0) + 1
        promised = Resources()
        for number, leaf in ledger.leaves.items():
            expected = leaf.expected.get(name, 0)
            taken = taken + leaf.wish.request * expected
            promised = promised + leaf.wish.request * leaf.promises.get(name, 0)
            count = kept.get(number, 0) + expected
            if leaf.rooms.get(name, 0) != count or room.kept.get(number, 0) != count:
                yield (
                    f"node {name}: session {number} has {count} executors there; the ledger counts "
                    f"{leaf.rooms.get(name, 0)} and {room.kept.get(number, 0)}"
                )
        if room.free != room.machine.capacity - taken:
            yield f"node {name}: {room.free} is free in the ledger, {taken} is taken"
        if room.open != room.free - promised or room.leaving != leaving:
            yield (
                f"node {name}: the ledger has {room.open} open and {room.leaving} leaving of "
                f"{room.free} free; {promised} is promised and {leaving} leaving"
            )
    slots = ledger.slots
    counted = (slots.taken, slots.leaving, slots.expected, slots.promised, slots.freed)
    should = (
        len(ledger.holdings),
        sum(holding.leaving for holding in ledger.holdings.values()),
        sum(sum(leaf.expected.values()) for leaf in ledger.leaves.values()),
        sum(sum(leaf.promises.values()) for leaf in ledger.leaves.values()),
        0,
    )
    if counted != should:
        yield f"the ledger counts {counted} slots taken, leaving, expected and promised: {should}"
    for number, leaf in ledger.leaves.items():
        if leaf.kept != sum(leaf.rooms.values()):
            yield f"session {number}: the ledger counts {leaf.kept} executors, {leaf.rooms} by node"
    yield from _lists(ledger)


def _lists(ledger: Ledger) -> Iterator[str]:
    """What is listed so that it need not be looked for is what a search finds."""
    hungry: dict[int, int] = {}
    keeping: dict[int, dict[int, Leaf]] = {}
    for leaf in ledger.leaves.values():
        hungry[id(leaf.shape)] = hungry.get(id(leaf.shape), 0) + (leaf.entry is not None)
        if leaf.kept:
            keeping.setdefault(leaf.parent.order, {})[leaf.wish.order] = leaf
    for shape in ledger.tree.wanted:
        if not shape.hungry or shape.hungry != hungry.get(id(shape), 0):
            yield f"{shape} is listed; {hungry.get(id(shape), 0)} sessions want more"
    for leaf in ledger.leaves.values():
        standing_by = sum(
            h.standby == leaf.wish.session and not h.leaving for h in ledger.holdings.values()
        )
        is_ready = bool(standing_by and leaf.entry is not None)
        if leaf.standing_by != standing_by or (leaf.wish.order in ledger.tree.ready) != is_ready:
            yield f"session {leaf.wish.session}: {leaf.standing_by} stand by, ready {is_ready}"
    if len(ledger.tree.wanted) != sum(count > 0 for count in hungry.values()):
        yield f"the ledger lists {len(ledger.tree.wanted)} shapes as wanted: {hungry}"
    for branch in (ledger.root, *ledger.branches.values()):
        if branch.keeping != keeping.get(branch.order, {}):
            yield f"tenant {branch.spec.name!r} lists {sorted(branch.keeping)} as keeping executors"
