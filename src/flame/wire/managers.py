"""The session managers of a cluster, of which one leads: channels to all, and which one to try."""

from collections.abc import Callable, Iterable, Sequence

import grpc
import grpc.aio

from flame.model.errors import InvalidConfiguration
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.wire.channels import Endpoint, open_channel

#: Seconds that one of several may take to its first word, before the next one is tried.
HELLO_AMONG_SEVERAL = 3.0
#: The longest back-off between two rounds through several: a stand-by leads within seconds.
CEILING_AMONG_SEVERAL = 1.0

_UNCONNECTED = (
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.CONNECTING,
)


def parse_endpoints(given: str | Sequence[str]) -> tuple[Endpoint, ...]:
    """Read one address, several with commas between them, or a list.

    Raises:
        InvalidConfiguration: One is no address, or some are https and others are not.
    """
    texts = given.split(",") if isinstance(given, str) else given
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidConfiguration(
            f"endpoint {given!r} is not an address like http://127.0.0.1:8080, nor a list of them"
        )
    found = tuple(dict.fromkeys(Endpoint.parse(text.strip()) for text in texts))
    if len({endpoint.tls for endpoint in found}) > 1:
        raise InvalidConfiguration(
            f"endpoint {show(found)}: some are https and some are not; the token must not go both ways"
        )
    return found


def show(endpoints: Iterable[Endpoint]) -> str:
    """Return addresses as they are given."""
    return ",".join(str(endpoint) for endpoint in endpoints)


class Managers:
    """Channels to session managers, opened when first used.

    Several users may share it: where one has found nobody, the others need not look.

    Attributes:
        current: The one to try.
        several: Whether there is another one to try.
        on_moved: Called with each address that was given up for the next.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        ca_file: str | None = None,
        max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
    ) -> None:
        """Prepare channels on the running loop.

        Raises:
            InvalidConfiguration: ``ca_file`` cannot be read.
        """
        self.endpoints = tuple(endpoints)
        self.ca_file = ca_file
        self._max_input_bytes = max_input_bytes
        self.channels = {endpoint: self._open(endpoint) for endpoint in self.endpoints}
        self.several = len(self.endpoints) > 1
        self.on_moved: list[Callable[[Endpoint], None]] = []
        self._at = 0
        self._failures = 0

    @property
    def current(self) -> Endpoint:
        """The one to try."""
        return self.endpoints[self._at]

    def found(self) -> None:
        """The current one leads."""
        self._failures = 0

    def failed(self, endpoint: Endpoint) -> bool:
        """This one does not lead, or does not answer: go on to the next.

        Returns:
            Whether it is time to back off: every one was tried.
        """
        if endpoint != self.current:
            return False
        self._failures += 1
        if self.several:
            self._at = (self._at + 1) % len(self.endpoints)
            for told in self.on_moved:
                told(endpoint)
        return self._failures % len(self.endpoints) == 0

    async def reopen(self, endpoint: Endpoint) -> None:
        """Give up the connection to this one, which was silent.

        Calls would go on to share it, and TCP tries again ever more rarely: after a partition of 20
        seconds the next try may be 10 seconds away. Calls that are under way there are cancelled.
        """
        try:
            opened = self._open(endpoint)
        except InvalidConfiguration:
            return  # whoever writes the file of certificates anew is not done yet
        old, self.channels[endpoint] = self.channels[endpoint], opened
        await old.close(None)

    async def reopen_unless_connected(self, endpoint: Endpoint) -> None:
        """Have the next call really try: after a failure gRPC waits by itself, as its users do.

        Meanwhile it answers for a session manager that is there again.
        """
        if self.channels[endpoint].get_state() in _UNCONNECTED:
            await self.reopen(endpoint)

    def _open(self, endpoint: Endpoint) -> grpc.aio.Channel:
        return open_channel(endpoint, ca_file=self.ca_file, max_input_bytes=self._max_input_bytes)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self.channels.values():
            await channel.close(None)

    async def __aenter__(self) -> "Managers":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __str__(self) -> str:
        return show(self.endpoints)
