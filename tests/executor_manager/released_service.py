"""A service written with the released SDK; it runs in an environment without ``flame``."""

import flamepy  # type: ignore[import-not-found] # in an environment of its own


class Shout(flamepy.FlameService):  # type: ignore[misc]
    def on_session_enter(self, context: flamepy.SessionContext) -> None:
        pass

    def on_task_invoke(self, context: flamepy.TaskContext) -> bytes:
        if context.input == b"fail":
            raise ValueError("the released reason")
        return bytes(context.input or b"").upper()

    def on_session_leave(self) -> None:
        pass


if __name__ == "__main__":
    flamepy.run(Shout())
