"""A session manager that only TCP reaches, as from another machine: ``python -m tests.chaos.far_manager ...``."""

from typing import Any

from flame.session_manager.framed_port import FramedPort
from flame.session_manager.main import main
from flame.wire.frames import FramedAddress

_listen = FramedPort.listen


async def _listen_without_local_socket(self: FramedPort, *args: Any) -> FramedAddress:
    address = await _listen(self, *args)
    address.local = ""
    return address


if __name__ == "__main__":
    setattr(FramedPort, "listen", _listen_without_local_socket)  # noqa: B010 - mypy wants its types
    main(prog_name="flame-session-manager")
