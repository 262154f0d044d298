"""Which cluster a command talks to.

The same options on every command. What is not given comes from the environment
(``FLAME_ENDPOINT``, ``FLAME_TOKEN``, ``FLAME_TOKEN_FILE``, ``FLAME_CA_FILE``, ``FLAME_TENANT``), then from the current
context of ``~/.flame/flame.yaml``, and in the end is the cluster that ``flame up`` starts on this
machine.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import flame
from flame.cli.outages import tell_of_outages
from flame.model.errors import Unavailable

if TYPE_CHECKING:
    from flame.sdk.managers import ManagerInfo

LOCAL_ENDPOINT = "http://127.0.0.1:8080"

#: Seconds; long enough for a session manager that is being started again.
CONNECT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Connection:
    """What the connection options say; None where they say nothing."""

    endpoint: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    config: str | None = None
    tenant: str | None = None

    def open(self, *, executors: int | None = None) -> flame.Client:
        """Connect to a running cluster, or start one with so many executors for this command.

        Raises:
            Unavailable: Nobody listens there.
            Unauthenticated: The cluster does not know the token.
        """
        tell_of_outages()
        if executors is not None:
            if self.endpoint is not None:
                raise click.UsageError(
                    "--executors starts a cluster of its own; --endpoint names one"
                )
            return flame.connect(executors=executors)
        try:
            return flame.connect(
                self.endpoint,
                token_file=self.token_file,
                ca_file=self.ca_file,
                config=self.config,
                tenant=self.tenant,
                default_endpoint=LOCAL_ENDPOINT,
                timeout=CONNECT_TIMEOUT,
            )
        except Unavailable as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                hint = (
                    "Its certificate is of another authority: name that one's file with --ca-file"
                )
            elif LOCAL_ENDPOINT in str(error):
                hint = "To start a cluster here: flame up"
            else:
                raise
            raise Unavailable(f"{error}. {hint}") from error

    def list_managers(self) -> "list[ManagerInfo]":
        """Return the session managers that are named, whichever of them leads."""
        from flame.sdk.managers import list_managers  # loads protobuf's Python, for this alone

        return list_managers(
            self.endpoint,
            token_file=self.token_file,
            ca_file=self.ca_file,
            config=self.config,
            default_endpoint=LOCAL_ENDPOINT,
        )


#: What :meth:`Connection.open` takes.
executors_option = click.option(
    "--executors",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start a cluster with N executors for this run instead of using a running one.",
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which receives them as one argument, ``connection``."""

    @functools.wraps(command)
    def with_connection(
        *args: Any,
        endpoint: str | None,
        token_file: str | None,
        ca_file: str | None,
        config: str | None,
        tenant: str | None,
        **kwargs: Any,
    ) -> Any:
        connection = Connection(endpoint, token_file, ca_file, config, tenant)
        return command(*args, connection=connection, **kwargs)

    path = click.Path(dir_okay=False)
    decorated: Callable[..., Any] = with_connection
    for option in (
        click.option(
            "--tenant",
            metavar="TENANT",
            help="For whom, among those that the token is for (or FLAME_TENANT).",
        ),
        click.option(
            "--config",
            type=path,
            metavar="FILE",
            help="Client configuration (default ~/.flame/flame.yaml).",
        ),
        click.option(
            "--ca-file",
            type=path,
            metavar="FILE",
            help="Certificate authority of an https endpoint (or FLAME_CA_FILE).",
        ),
        click.option(
            "--token-file",
            type=path,
            metavar="FILE",
            help="File with the token (or FLAME_TOKEN_FILE, or FLAME_TOKEN itself).",
        ),
        click.option(
            "--endpoint",
            metavar="URL",
            help="Session manager, or several with commas if they stand by for one another "
            f"(or FLAME_ENDPOINT; default {LOCAL_ENDPOINT}).",
        ),
    ):
        decorated = option(decorated)
    return decorated
