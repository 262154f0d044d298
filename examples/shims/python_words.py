"""Python: the service is an object in the executor."""

import flame


class Words(flame.FlameService):
    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        return b"%d" % len((context.input or b"").split())
