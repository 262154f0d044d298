"""What is true of a cluster's state between any two events.

Every index is derived again from what it indexes, and compared. The simulator calls :func:`check`
after every event; it costs as much as the state is large, so nobody else does.
"""

from collections.abc import Iterator

from flame.core import ledger_invariants, session_invariants
from flame.core.backlog import Backlog
from flame.core.executor import Executor
from flame.core.node import Node
from flame.core.state import State
from flame.core.task_limits import next_due, timeout_of
from flame.model.resources import Resources
from flame.model.specs import ExecutorState, NodeState, SessionState

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
        yield from session_invariants.problems_of(state, session)
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
    yield from ledger_invariants.problems_of(state)


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
