"""The service that this package is for."""

from importlib import resources

import flame


class Words(flame.FlameService):
    """Counts the words of a text that are not in ``stop.txt``, which comes with the package."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self.stop = set(resources.files(__package__).joinpath("stop.txt").read_text().split())

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        words = (context.input or b"").decode().lower().split()
        return str(sum(word not in self.stop for word in words)).encode()
