"""The names of what there is, for the completion of a shell: asked of the cluster, and not for long."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

import flame
from flame.cli.connection import LOCAL_ENDPOINT
from flame.cli.documents.sessions import open_first
from flame.model.errors import FlameError
from flame.model.specs import SessionState

#: Seconds. Whoever presses a key waits for it.
PATIENCE = 1.0

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Named = Iterable[tuple[str, str]]


def _completion(names: Callable[[flame.Client], Named]) -> Completion:
    """Complete with names, each with what is said of it. A cluster that is not there has none."""

    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        given = {
            name: ctx.params.get(name) for name in ("token_file", "ca_file", "config", "tenant")
        }
        try:
            with flame.connect(
                ctx.params.get("endpoint"),
                **given,
                default_endpoint=LOCAL_ENDPOINT,
                timeout=PATIENCE,
                retry=PATIENCE,
            ) as client:
                found = [each for each in names(client) if each[0].startswith(incomplete)]
        except (FlameError, OSError):
            return []
        return [CompletionItem(name, help=said) for name, said in found]

    return complete


def _sessions(client: flame.Client) -> Named:
    return [(info.name, info.spec.application) for info in open_first(client.list_sessions())]


def _sessions_in(state: SessionState) -> Completion:
    return _completion(
        lambda client: [
            (info.name, info.spec.application)
            for info in client.list_sessions()
            if info.state is state
        ]
    )


applications = _completion(
    lambda client: [(each.name, each.spec.description or "") for each in client.list_applications()]
)
executors = _completion(lambda client: [(each.id, each.node) for each in client.list_executors()])
nodes = _completion(lambda client: [(each.name, each.hostname) for each in client.list_nodes()])
open_sessions = _sessions_in(SessionState.OPEN)
closed_sessions = _sessions_in(SessionState.CLOSED)
sessions = _completion(_sessions)
tenants = _completion(lambda client: [(each.spec.name, "") for each in client.admin.list_tenants()])
