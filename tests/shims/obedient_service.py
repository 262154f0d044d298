"""``obedient.py`` for the python shim."""

import time

import flame
from tests.shims import obedient


class Obedient(flame.FlameService):
    def on_session_enter(self, context: flame.SessionContext) -> None:
        obedient.enter(context.common_data)

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        match context.input:
            case b"!die":
                raise SystemExit(7)
            case b"!wait":
                while not context.cancelled:
                    time.sleep(0.001)
                return b"stopped"
        said = {
            "labels": dict(context.labels),
            "input_path": context.input_path,
            "output_path": context.output_path,
        }
        return obedient.do(context.input, obedient.only_told(said))

    def on_session_leave(self) -> None:
        obedient.leave()
