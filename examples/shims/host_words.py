"""Host: a program written with the released SDK, flamepy 0.6.0, which serves ``flame.v1.Instance``."""

from flamepy import FlameService, SessionContext, TaskContext, run


class Words(FlameService):
    def on_session_enter(self, context: SessionContext) -> bool:
        return True

    def on_task_invoke(self, context: TaskContext) -> bytes:
        return str(len((context.input or b"").split())).encode()

    def on_session_leave(self) -> bool:
        return True


if __name__ == "__main__":
    run(Words())
