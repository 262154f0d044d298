import json
import sys

import pytest

from flame.executor_manager.services.ping import PingService
from flame.executor_manager.services.script import ScriptFailed, ScriptService
from flame.model.errors import InvalidRequest
from flame.model.ids import TaskId
from flame.model.service import ApplicationContext, SessionContext, TaskContext


def session(common_data: bytes | None = None) -> SessionContext:
    return SessionContext("s1", ApplicationContext("flmping"), common_data)


def task(data: bytes | None) -> TaskContext:
    return TaskContext(TaskId(7), "s1", data)


def script(**request: object) -> bytes:
    output = ScriptService().on_task_invoke(task(json.dumps(request).encode()))
    return bytes(json.loads(output or b"{}")["data"])


def test_a_ping_answers_with_its_input() -> None:
    ping = PingService()
    ping.on_session_enter(session())
    assert ping.on_task_invoke(task(b"hello")) == b"hello"
    assert ping.on_task_invoke(task(b"")) == b""
    assert ping.on_task_invoke(task(None)) == b"Task <7> completed"


def test_a_ping_can_pretend_to_work() -> None:
    ping = PingService()
    ping.on_session_enter(session(b'{"duration_ms": 1, "memory": 10000}'))
    assert ping.on_task_invoke(task(b"x")) == b"x"


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b'{"memory": "much"}'])
def test_a_ping_refuses_common_data_that_it_does_not_know(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="duration_ms and memory"):
        PingService().on_session_enter(session(data))


def test_a_shell_script_gets_its_input_and_its_output_returns() -> None:
    assert script(language="shell", code="tr a-z A-Z", input=list(b"abc")) == b"ABC"


def test_a_python_script_runs_with_this_interpreter_unless_told() -> None:
    code = "import sys; sys.stdout.write(sys.executable)"
    assert script(language="python", code=code) == sys.executable.encode()
    assert script(language="shell", runtime="cat", code="as it is") == b"as it is"


def test_a_script_that_fails_fails_its_task_with_the_end_of_stderr() -> None:
    with pytest.raises(ScriptFailed, match="ended with code 3: oh no"):
        script(language="shell", code="echo oh no >&2; exit 3")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "must be JSON"),
        (b"[]", "must be an object"),
        (b'{"language": "perl", "code": ""}', "allowed are 'shell' and 'python'"),
        (b'{"language": "shell"}', "code is missing"),
        (b'{"language": "shell", "code": "", "input": [256]}', "byte values"),
        (b'{"language": "shell", "code": "", "runtime": "no-such"}', "'no-such' is not an exec"),
    ],
)
def test_a_request_that_is_wrong_says_where(data: bytes | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ScriptService().on_task_invoke(task(data))
