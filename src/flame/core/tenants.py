"""Tenants and tokens, managed while the cluster runs.

A tenant that the configuration file lists is *declared*: the file has the last word on it, at every
start, and it is not changed here. All others are stored. Both together must make sense as a tree.
"""

from collections.abc import Iterable, Sequence

from flame.core.backlog import Backlog
from flame.core.effects import TenantView, TokenRevoked, TokenView
from flame.core.events import CreateToken, DeleteTenant, PutTenant, RevokeToken
from flame.core.records import Recovered, TenantDeleted, TenantPut, TokenDeleted, TokenPut
from flame.core.reports import kept_by, report
from flame.core.sessions import ReplyDone
from flame.core.state import State, milliseconds
from flame.model.credentials import TokenId, TokenSpec
from flame.model.errors import (
    AlreadyExists,
    InvalidConfiguration,
    InvalidRequest,
    NotFound,
    WrongState,
)
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.specs import SessionState
from flame.model.tenants import DEFAULT_SPEC, TenantSpec, check_tenant, check_tree
from flame.scheduling.deserved import Fairness, fairness


def declare(state: State, specs: Iterable[TenantSpec]) -> None:
    """Take the tenants that the configuration file lists.

    Raises:
        InvalidRequest: They make no sense.
    """
    tree = check_tree(specs)
    # ``default`` is always there; unless the file says something of it, it may be changed.
    state.declared = {name: spec for name, spec in tree.items() if spec != DEFAULT_SPEC}
    _apply(state, tree)


def restore(state: State, recovered: Recovered) -> None:
    """Add what is stored to what is declared.

    Raises:
        InvalidConfiguration: They do not go together.
    """
    state.tokens = {put.token: put for put in recovered.tokens}
    state.tenants = {put.spec.name: put for put in recovered.tenants}
    try:
        _apply(state, check_tree(_together(state)))
    except InvalidRequest as error:
        raise InvalidConfiguration(
            f"cluster.tenants does not go with the stored tenants: {error}"
        ) from error


def _together(state: State) -> list[TenantSpec]:
    stored = [put.spec for name, put in state.tenants.items() if name not in state.declared]
    return [*state.declared.values(), *stored]


def _apply(state: State, tree: dict[Tenant, TenantSpec]) -> None:
    state.tree = tree
    state.ledger.put_tenants(tree.values())
    state.backlogs.set_limits(tree)
    state.touched_sessions.update(dict.fromkeys(state.ledger.leaves))
    state.replan = True


# --- tenants -----------------------------------------------------------------------------------


def on_put_tenant(state: State, event: PutTenant, now: float) -> None:
    """Create a tenant, or replace all that is said of it."""
    spec = check_tenant(event.spec)
    _check_not_declared(state, spec.name)
    known = state.tenants.get(spec.name)
    there = known is not None or spec.name == DEFAULT_TENANT
    if event.must_be_new and there:
        raise AlreadyExists(f"tenant {spec.name!r} exists already; update it instead")
    if event.must_exist and not there:
        raise NotFound(f"there is no tenant {spec.name!r} to update; create it first")
    others = [other for other in _together(state) if other.name != spec.name]
    tree = check_tree([*others, spec])
    put = TenantPut(spec, known.created_ms if known is not None else milliseconds(now))
    state.tenants[spec.name] = put
    _apply(state, tree)
    state.store(put, ReplyDone(event.reply))


def on_delete_tenant(state: State, event: DeleteTenant, now: float) -> None:
    """Forget a tenant that nobody is, or is below."""
    name = event.name
    if name == DEFAULT_TENANT:
        raise InvalidRequest("tenant 'default' is always there; update it instead")
    _check_not_declared(state, name)
    if name not in state.tenants:
        raise NotFound(f"there is no tenant {name!r}; `flmctl tenant list` shows those there are")
    children = sorted(other for other, spec in state.tree.items() if spec.parent == name)
    if children:
        raise WrongState(f"tenant {name!r} has tenants below it: {', '.join(children)}")
    users = [
        s.name for s in state.sessions.values() if s.tenant == name and s.state is SessionState.OPEN
    ]
    if users:
        raise WrongState(
            f"tenant {name!r} has {len(users)} open sessions, {users[0]!r} among them; "
            "close them first"
        )
    tokens = sorted(t for t, put in state.tokens.items() if name in put.spec.tenants)
    if tokens:
        raise WrongState(f"tenant {name!r} has tokens: {', '.join(tokens)}; revoke them first")
    del state.tenants[name]
    _apply(state, check_tree(_together(state)))
    state.store(TenantDeleted(name), ReplyDone(event.reply))


def _check_not_declared(state: State, name: Tenant) -> None:
    if name in state.declared:
        raise WrongState(
            f"tenant {name!r} is declared in the configuration file (cluster.tenants), which has "
            "the last word; change it there and start the session manager again"
        )


# --- tokens ------------------------------------------------------------------------------------


def on_create_token(state: State, event: CreateToken, now: float) -> None:
    """Let somebody in."""
    for tenant in event.spec.tenants:
        if tenant not in state.tree:
            raise NotFound(f"tenants: there is no tenant {tenant!r}; create it first")
    put = TokenPut(event.token, event.spec, milliseconds(now))
    state.tokens[event.token] = put
    state.store(put, ReplyDone(event.reply))


def on_revoke_token(state: State, event: RevokeToken, now: float) -> None:
    """Let its holder in no more, and out now."""
    if state.tokens.pop(event.token, None) is None:
        raise NotFound(
            f"there is no token {event.token!r}; `flmctl token list` shows those there are"
        )
    state.store(TokenDeleted(event.token), ReplyDone(event.reply))
    state.emit(TokenRevoked(event.token))


def token_views(state: State) -> list[TokenView]:
    """Show all tokens, without what is secret."""
    return [
        TokenView(put.token, put.spec.role, put.spec.tenants, put.spec.note, put.created_ms)
        for put in sorted(state.tokens.values(), key=lambda put: (put.created_ms, put.token))
    ]


def find_token(state: State, token: TokenId) -> TokenSpec | None:
    """Return what a token opens, or None if it opens nothing."""
    put = state.tokens.get(token)
    return None if put is None else put.spec


# --- what callers are shown ----------------------------------------------------------------------


def tenant_views(state: State, now: float) -> list[TenantView]:
    """Show every tenant that exists or has sessions, parents first, with how well it is served."""
    report(state, now)
    _, of_session = fairness(state.ledger)
    names = dict.fromkeys(state.tree)
    got: dict[Tenant, float] = {}
    deserved: dict[Tenant, float] = {}
    executors: dict[Tenant, int] = {}
    for number, share in of_session.items():
        session = state.sessions[number]
        kept = kept_by(session)
        for name in _up_from(session.tenant):
            names.setdefault(name)
            got[name] = got.get(name, 0.0) + share.got
            deserved[name] = deserved.get(name, 0.0) + share.deserved
            executors[name] = executors.get(name, 0) + kept
    usage = _usage_up(state)
    views = []
    for name in sorted(names, key=lambda n: n.split("/")):
        put = state.tenants.get(name)
        backlog = state.backlogs.by_tenant.get(name) or Backlog(name)
        over_time = usage.get(name, Fairness(0.0, 0.0))
        views.append(
            TenantView(
                state.tree.get(name) or TenantSpec(name),
                name in state.declared,
                put.created_ms if put is not None and name not in state.declared else 0,
                got.get(name, 0.0),
                deserved.get(name, 0.0),
                over_time.got,
                over_time.deserved,
                backlog.sessions,
                executors.get(name, 0),
                backlog.tasks,
                backlog.size,
            )
        )
    return views


def tenant_view(views: Sequence[TenantView], name: Tenant) -> TenantView:
    """Return one of them.

    Raises:
        NotFound: There is none of this name.
    """
    for view in views:
        if view.spec.name == name:
            return view
    raise NotFound(f"there is no tenant {name!r}; `flmctl tenant list` shows those there are")


def _usage_up(state: State) -> dict[Tenant, Fairness]:
    sums: dict[Tenant, Fairness] = {}
    for tenant, share in (state.usage.decayed() if state.usage is not None else {}).items():
        for name in _up_from(tenant):
            known = sums.get(name, Fairness(0.0, 0.0))
            sums[name] = Fairness(known.got + share.got, known.deserved + share.deserved)
    return sums


def _up_from(tenant: Tenant) -> list[Tenant]:
    """Return the tenant and those above it."""
    names = [tenant]
    while (above := TenantSpec(names[-1]).parent) is not None:
        names.append(above)
    return names
