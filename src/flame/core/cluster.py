"""The cluster: the one door to every rule.

    events, now ──▶ Cluster.handle ──▶ effects, in the order in which to perform them

``handle`` never fails for what a caller did: an error becomes a Refuse effect. A ``Store`` effect
comes back, once it is committed, as a ``Committed`` event.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flame.core import (
    attempts,
    binding,
    connecting,
    cordons,
    early_ends,
    events,
    full_store,
    gangs,
    hand,
    invariants,
    keeping,
    leaving,
    loss,
    nodes,
    outcomes,
    overdue,
    preemption,
    recovery,
    sessions,
    submission,
    subscribers,
    usage,
    watchers,
)
from flame.core import tenants as tenants_
from flame.core.allocation import Planner, replan
from flame.core.backlog import Backlogs
from flame.core.effects import (
    ApplicationView,
    Effect,
    ExecutorView,
    NodeView,
    Refuse,
    SessionView,
    Store,
    TaskView,
    TenantView,
    TokenView,
)
from flame.core.records import OutcomesRecorded, Recovered, TasksSubmitted
from flame.core.reports import report, somebody_waits
from flame.core.state import Limits, State
from flame.core.views import (
    application_view,
    executor_view,
    node_view,
    session_view,
    task_view,
)
from flame.core.waiting import waiting_for
from flame.model.credentials import TokenId, TokenSpec
from flame.model.errors import FlameError, NotFound, ResourceExhausted
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.specs import ExecutorState
from flame.model.tenants import TenantSpec
from flame.scheduling.ledger import Ledger
from flame.scheduling.policies import Policies
from flame.scheduling.scheduler import Scheduler


@dataclass(slots=True)
class Committed:
    """These Store effects' records are in the store, in this order."""

    stores: Sequence[Store]


#: Seconds that an executor without work waits for what another one was asked to give up, before it
#: goes to a session that waits.
TAKE_BACK_WAIT = 0.1

#: Events that answer a call: a FlameError raised by their rule becomes a Refuse effect.
_CALLS: dict[type, Callable[[State, Any, float], None]] = {
    events.RegisterApplication: sessions.on_register,
    events.UnregisterApplication: sessions.on_unregister,
    events.CreateSession: sessions.on_create_session,
    events.OpenSession: sessions.on_open_session,
    events.CloseSession: sessions.on_close,
    events.DeleteSession: sessions.on_delete,
    events.CancelTasks: sessions.on_cancel,
    events.PutTenant: tenants_.on_put_tenant,
    events.DeleteTenant: tenants_.on_delete_tenant,
    events.CreateToken: tenants_.on_create_token,
    events.RevokeToken: tenants_.on_revoke_token,
    events.CordonNode: cordons.on_cordon,
    events.UncordonNode: cordons.on_uncordon,
    events.Attach: submission.on_attach,
    events.CreateTask: submission.on_create,
}

#: Calls that are refused while the store is full; ``CreateTask`` of a session in memory is not.
_NEED_ROOM = (
    events.RegisterApplication,
    events.UnregisterApplication,
    events.CreateSession,
    events.OpenSession,
    events.CloseSession,
    events.DeleteSession,
    events.PutTenant,
    events.DeleteTenant,
    events.CreateToken,
    events.RevokeToken,
)

_NOTICES: dict[type, Callable[[State, Any, float], None]] = {
    events.Detach: submission.on_detach,
    events.SubmitTasks: submission.on_submit,
    events.GrantOutcomes: subscribers.on_grant,
    events.OutcomesFetched: subscribers.on_fetched,
    events.WatchTask: watchers.on_watch,
    events.UnwatchTask: watchers.on_unwatch,
    events.NodeConnected: nodes.on_node_connected,
    events.NodeRenewed: nodes.on_renewed,
    events.NodeDisconnected: nodes.on_node_disconnected,
    events.NodeLeft: nodes.on_node_left,
    events.ExecutorExited: loss.on_exited,
    events.StartDelayed: binding.on_start_delayed,
    events.ExecutorConnected: connecting.on_connected,
    events.ExecutorDisconnected: connecting.on_disconnected,
    full_store.StoreFull: full_store.on_store_full,
    full_store.StoreHasRoom: full_store.on_store_has_room,
}

#: Events from an executor's process: dropped, and the process refused, if its incarnation has ended.
_FROM_EXECUTORS: dict[type, Callable[[State, Any, Any, float], None]] = {
    events.BindDone: binding.on_bind_done,
    events.WindowChanged: hand.on_window,
    events.TaskStarted: hand.on_started,
    events.TasksFinished: outcomes.on_finished,
    events.TasksTakenBack: hand.on_taken_back,
    events.ExecutorUnbound: leaving.on_unbound,
}


class Cluster:
    """Everything that must be right, as one object without I/O.

    Args:
        policies: How sessions share the cluster.
        new_id: Makes ids for executors (UUIDs; in a simulation, numbers from a seed).
        limits: What to refuse.
        tenants: Who shares it; those that are not listed have weight 1.
        planner: Decides which session gets which executor.
    """

    def __init__(
        self,
        policies: Policies,
        new_id: Callable[[], str],
        limits: Limits | None = None,
        *,
        tenants: Iterable[TenantSpec] = (),
        planner: Planner | None = None,
    ) -> None:
        limits = limits or Limits()
        self.state = State(
            limits,
            new_id,
            ledger=Ledger(policies, max_executors=limits.max_executors),
            backlogs=Backlogs(
                limits.max_sessions, limits.max_cluster_tasks, limits.max_cluster_bytes
            ),
        )
        tenants_.declare(self.state, tenants)
        self._planner = planner or Scheduler()
        self._now = 0.0

    def restore(self, recovered: Recovered, now: float) -> list[Effect]:
        """Start from what the store holds. Called once, before any event."""
        tenants_.restore(self.state, recovered)
        recovery.restore(self.state, recovered, now)
        return self._settle(now)

    def handle(self, event: object, now: float) -> list[Effect]:
        """Apply one event at ``now`` (seconds since the epoch, never going back)."""
        state = self.state
        self._now = now
        kind = type(event)
        if kind in _FROM_EXECUTORS:
            if kind is events.WindowChanged:
                connecting.on_window_from_before(state, event)  # type: ignore[arg-type]
            executor = connecting.current(state, event.executor, event.incarnation)  # type: ignore[attr-defined]
            if executor is not None:
                _FROM_EXECUTORS[kind](state, executor, event, now)
                self._review_close(executor.session, now)
        elif kind is Committed:
            for store in event.stores:  # type: ignore[attr-defined]
                if store.cause is not None:
                    self._committed(store, now)
        elif kind in _CALLS:
            try:
                if state.full and kind in _NEED_ROOM:
                    raise ResourceExhausted(state.full)
                _CALLS[kind](state, event, now)
            except FlameError as error:
                state.emit(Refuse(event.reply, error))  # type: ignore[attr-defined]
        elif kind is events.Tick:
            for key in state.deadlines.pop_due(now):
                self._due(key[0], key[1], now)
        else:
            _NOTICES[kind](state, event, now)
        return self._settle(now)

    def next_deadline(self) -> float | None:
        """Return when to send the next Tick, or None."""
        return self.state.deadlines.next()

    def check(self) -> None:
        """Derive every index of the state again.

        Raises:
            AssertionError: One of them is wrong, which is a bug in Flame.
        """
        invariants.check(self.state)

    def _settle(self, now: float) -> list[Effect]:
        state = self.state
        if state.out_of_work:
            self._release_at_once(now)
        if state.touched_gangs:
            gangs.review(state, now)
        if state.replan:
            replan(state, self._planner, now)
        state.out_of_work.clear()
        effects = state.effects
        state.effects = []
        return effects

    def _release_at_once(self, now: float) -> None:
        """Let others have executors without work at once, if another session waits."""
        state = self.state
        report(state, now)
        state.waiting = somebody_waits(state)
        for executor_id in state.out_of_work:
            executor = state.executors.get(executor_id)
            session = executor.session if executor is not None else None
            if executor is None or session is None or executor.held or session.resting:
                continue
            if executor.standby:
                continue  # in the same moment its delay was over
            if any(e.take_back for e in session.executors.values()):
                # Work may be on its way to it.
                state.deadlines.set(("spare", executor.id), now + TAKE_BACK_WAIT)
            elif somebody_waits(state, besides=session):
                overdue.idle_overdue(state, session, executor, now, others_wait=True)

    def _review_close(self, session: Any, now: float) -> None:
        if session is not None and session.closing is not None:
            sessions.review_close(self.state, session, now)

    def _committed(self, store: Store, now: float) -> None:
        state, cause, record = self.state, store.cause, store.record
        match record, cause:
            case OutcomesRecorded(), outcomes.OutcomesStored():
                outcomes.outcomes_stored(state, record, cause)
            case _, outcomes.OutcomesStored():
                outcomes.results_dropped(state, cause)
            case TasksSubmitted(), submission.SubmitStored() | submission.CreateStored():
                submission.tasks_stored(state, record, cause, now)
            case _, submission.DuplicatesStored():
                submission.duplicates_stored(state, cause)
            case _, sessions.ReplySession():
                sessions.session_stored(state, cause, now)
            case _, sessions.ReplyDone():
                sessions.reply_done(state, cause)
            case _, sessions.CloseBegins():
                sessions.close_begins(state, cause, now)
            case _, attempts.LeaseLostStored():
                attempts.lease_lost_stored(state, cause, now)
            case _, binding.BindingStored():
                binding.binding_stored(state, cause, now)
            case _:
                raise AssertionError(f"no rule for the commit of {record} with {cause}")

    def _due(self, kind: str, key: str | int, now: float) -> None:
        state = self.state
        if kind == "lease":
            nodes.lease_ended(state, NodeName(str(key)), now)
        elif kind == "forget":
            nodes.forget(state, NodeName(str(key)))
        elif kind == "usage":
            usage.note(state, now)
        elif kind == "retry":
            state.touched_sessions[SessionNumber(int(key))] = None
            state.replan = True
        elif kind in ("close", "review", "rest", "deadline", "orphan", "away"):
            session = state.sessions.get(SessionNumber(int(key)))
            if session is not None:
                self._session_due(kind, session, now)
        else:
            executor = state.executors.get(ExecutorId(str(key)))
            if executor is not None:
                self._executor_due(kind, executor, now)

    def _session_due(self, kind: str, session: Any, now: float) -> None:
        if kind == "rest":
            attempts.rest_over(self.state, session, now)
        elif kind == "deadline":
            early_ends.deadline_overdue(self.state, session, now)
        elif kind == "away":
            keeping.away_overdue(self.state, session, now)
        elif kind == "orphan":
            sessions.orphan_overdue(self.state, session, now)
        else:
            sessions.review_close(self.state, session, now, overdue=kind == "close")

    def _executor_due(self, kind: str, executor: Any, now: float) -> None:
        state, session = self.state, executor.session
        if kind == "idle":
            if executor.state is ExecutorState.IDLE or executor.standby:
                leaving.leave_node(state, executor, now)
            elif session is not None and not executor.held:
                overdue.idle_overdue(state, session, executor, now)
        elif kind == "spare":
            if executor.state is ExecutorState.BOUND and not executor.standby:
                state.out_of_work[executor.id] = None  # look again: does anybody still wait?
        elif kind == "stop":
            overdue.stop_overdue(state, executor, now)
        elif kind == "leave":
            overdue.leave_overdue(state, executor, now)
        elif kind == "bind":
            overdue.bind_overdue(state, executor, now)
        elif kind == "reconnect":
            overdue.reconnect_overdue(state, executor, now)
        elif session is not None and kind == "timeout":
            overdue.timeout_overdue(state, session, executor, now)
        elif session is not None and kind == "preempt":
            preemption.grace_over(state, session, executor, now)
        elif session is not None and kind == "kill":
            overdue.kill_overdue(state, session, executor, now)

    # --- reads -----------------------------------------------------------------------------------

    def applications(self, tenant: Tenant) -> list[ApplicationView]:
        """Return the tenant's applications and the shared ones, by name."""
        return [
            application_view(a)
            for key, a in sorted(self.state.applications.items())
            if key[0] in (tenant, DEFAULT_TENANT)
        ]

    def application(self, tenant: Tenant, name: str) -> ApplicationView:
        """Return one application.

        Raises:
            NotFound: There is none of this name.
        """
        return application_view(self.state.application(tenant, name))

    def sessions(self, tenant: Tenant | None) -> list[SessionView]:
        """Return the tenant's sessions, oldest first; None: those of all tenants."""
        return [
            session_view(s)
            for s in self.state.sessions.values()
            if tenant is None or s.tenant == tenant
        ]

    def session_name(self, tenant: Tenant, number: SessionNumber) -> str:
        """Return the name of the tenant's session of this number.

        Raises:
            NotFound: There is none.
        """
        session = self.state.sessions.get(number)
        if session is None or session.tenant != tenant:
            raise NotFound(f"there is no session {number}")
        return session.name

    def session(self, tenant: Tenant, name: str) -> SessionView:
        """Return one session, and why it waits.

        Raises:
            NotFound: There is none of this name.
        """
        session = self.state.session_named(tenant, name)
        return replace(session_view(session), waiting=waiting_for(self.state, session, self._now))

    def task(self, tenant: Tenant, name: str, task_id: TaskId) -> TaskView | None:
        """Return a task that is not final and stored; None: ask the store.

        Raises:
            NotFound: There is no such session, or it never had this task.
        """
        session = self.state.session_named(tenant, name)
        task = session.live.get(task_id)
        if task is not None:
            return task_view(session, task)
        if task_id >= session.next_id:
            raise NotFound(f"there is no task {task_id} in session {name!r}")
        return None

    def executors(self) -> list[ExecutorView]:
        """Return every executor."""
        return [executor_view(e) for e in self.state.executors.values()]

    def nodes(self) -> list[NodeView]:
        """Return every node, by name."""
        return [node_view(self.state, n) for _, n in sorted(self.state.nodes.items())]

    def node(self, name: str) -> NodeView:
        """Return one node.

        Raises:
            NotFound: There is none of this name.
        """
        node = self.state.nodes.get(NodeName(name))
        if node is None:
            raise NotFound(f"there is no node {name!r}; `flmctl list -n` shows those there are")
        return node_view(self.state, node)

    def tenants(self) -> list[TenantView]:
        """Return every tenant that exists or has sessions, parents first. For people: O(S log S)."""
        return tenants_.tenant_views(self.state, self._now)

    def tokens(self) -> list[TokenView]:
        """Return every token, without what is secret."""
        return tenants_.token_views(self.state)

    def token(self, token: TokenId) -> TokenSpec | None:
        """Return what a token opens; None: nothing."""
        return tenants_.find_token(self.state, token)
