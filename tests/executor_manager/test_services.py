import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flame.executor_manager.services.ping import PingService
from flame.executor_manager.services.script import ScriptFailed, ScriptService
from flame.executor_manager.shims import ServiceFailure
from flame.executor_manager.shims.program import Leftovers
from flame.model.errors import InvalidRequest
from flame.model.ids import TaskId
from flame.model.service import ApplicationContext, SessionContext, TaskContext


def session(common_data: bytes | None = None) -> SessionContext:
    return SessionContext("s1", ApplicationContext("flmping"), common_data)


def task(data: bytes | None) -> TaskContext:
    return TaskContext(TaskId(7), "s1", data)


@contextlib.contextmanager
def scripts() -> Iterator[ScriptService]:
    service = ScriptService()
    service.on_session_enter(session())
    try:
        yield service
    finally:
        service.on_session_leave()


def ask(service: ScriptService, **request: object) -> bytes:
    request.setdefault("language", "shell")
    output = service.on_task_invoke(task(json.dumps(request).encode()))
    return bytes(json.loads(output or b"{}")["data"])


def script(**request: object) -> bytes:
    with scripts() as service:
        return ask(service, **request)


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
    with pytest.raises(ScriptFailed, match="ended with code 4: only this"):
        script(language="shell", code="echo only this; exit 4")


def test_a_script_finds_its_arguments_and_its_task() -> None:
    arguments = ["two words", "it's", "-n"]
    code = 'printf "%s|" "$@" $FLAME_TASK_ID $FLAME_SESSION_ID'
    assert script(code=code, arguments=arguments) == b"two words|it's|-n|7|s1|"
    code = "import os, sys; print(sys.argv[1:], os.environ['FLAME_TASK_ID'])"
    assert script(language="python", code=code, arguments=["a"]) == b"['a'] 7\n"


def test_a_reply_may_have_both_streams() -> None:
    request = {"language": "shell", "code": "printf abc; echo d >&2", "reply": "streams"}
    with scripts() as service:
        assert service.on_task_invoke(task(json.dumps(request).encode())) == b"3\nabcd\n"


@pytest.mark.parametrize(
    "code",
    [
        "cd /; export V=1; set -e; trap 'echo bye' EXIT; exec >/dev/null; false",
        "exit 9",
        "kill -9 $$",
        "kill 0",
        "echo 'no end",
        "exec 0<&- 1>&- 2>&-",
        "exec sleep 0",
        "ulimit -n 3",
        "echo 5 >&0; cat >/dev/null",
    ],
)
def test_what_a_script_does_to_its_shell_is_over_with_it(code: str) -> None:
    with scripts() as service:
        with contextlib.suppress(ScriptFailed):
            ask(service, code=code)
        assert ask(service, code="echo $V; pwd") == f"\n{os.getcwd()}\n".encode()


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.chdir('/'); os.environ['V'] = '1'; builtins = __builtins__; del builtins.print",
        "import sys; sys.exit(9)",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(0, 15)",
        "def no(end",
        "import os; os.closerange(0, 100)",
        "import os; os.execlp('true', 'true')",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
        "import os; os.write(0, b'5\\n')",
        "import sys; sys.setrecursionlimit(100000); exec('def f(): f()'); f()",
    ],
)
def test_what_a_python_script_does_to_its_interpreter_is_over_with_it(code: str) -> None:
    ask_python = {"language": "python", "code": "import os; print(os.getenv('V'), os.getcwd())"}
    with scripts() as service:
        with contextlib.suppress(ScriptFailed):
            ask(service, language="python", code=code)
        assert ask(service, **ask_python) == f"None {os.getcwd()}\n".encode()


def test_python_scripts_are_forks_of_one_interpreter() -> None:
    code = "import os; print(os.getppid(), os.getpid())"
    with scripts() as service:
        first, second = (ask(service, language="python", code=code).split() for _ in range(2))
    assert first[0] == second[0]
    assert first[1] != second[1]


PYTHON = """
import atexit, pickle, sys, threading, time

class Here: pass

def late():
    time.sleep(0.05)
    print("late", end=" ")

assert __name__ == "__main__" and pickle.loads(pickle.dumps(Here())).__class__ is Here
atexit.register(print, "at the end")
threading.Thread(target=late).start()
print(sys.stdin.read(), end=" ")
"""


def test_a_python_script_is_a_program() -> None:
    said = script(language="python", code=PYTHON, input="the input")
    assert said == b"the input late at the end\n"


def test_a_python_scripts_traceback_is_its_own() -> None:
    with pytest.raises(ScriptFailed) as caught:
        script(language="python", code="def f():\n    return 1 / 0\n\nf()")
    assert "ended with code 1: Traceback" in str(caught.value)
    assert 'File "<flmexec>", line 2, in f' in str(caught.value)
    assert "return 1 / 0" in str(caught.value)
    assert "python_forks" not in str(caught.value)
    assert "exec(" not in str(caught.value)
    with pytest.raises(ScriptFailed, match="SyntaxError"):
        script(language="python", code="def no(end")
    with pytest.raises(ScriptFailed, match="ended with code 1: no licence"):
        script(language="python", code="raise SystemExit('no licence')")


def test_a_python_script_that_nobody_wants_any_more_is_ended() -> None:
    request = json.dumps({"language": "python", "code": "import time; time.sleep(99)"}).encode()
    with scripts() as service:
        with pytest.raises(ServiceFailure, match="cancelled"):
            service.on_task_invoke(TaskContext(TaskId(7), "s1", request, 1, {7}))
        assert ask(service, language="python", code="print('well')") == b"well\n"


def test_a_text_that_is_no_request_is_a_script() -> None:
    with scripts() as service:
        assert service.on_task_invoke(task(b"echo hi")) == b"hi\n"


def test_a_signal_is_told() -> None:
    with pytest.raises(ScriptFailed, match="SIGTERM"):
        script(code="kill 0; sleep 9")


LEFT_BEHIND = """
import json, os
from flame.executor_manager.services.script import ScriptService
from flame.model.service import TaskContext
from flame.runtime.processes import become_subreaper

become_subreaper()  # as an executor is
service = ScriptService()
for start in ("sleep 99 & echo $!", "setsid sleep 99 & echo $!", "(sh -c 'sleep 99 & echo $!')"):
    request = {"language": "shell", "code": start, "reply": "streams"}
    reply = service.on_task_invoke(TaskContext(1, "s1", json.dumps(request).encode()))
    print(os.path.exists(f"/proc/{int(reply.split()[1])}"))
service.on_session_leave()
"""


def test_what_a_script_leaves_behind_ends_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, check=True)
    assert done.stdout == b"False\nFalse\nFalse\n"


def test_a_forked_executor_looks_for_leftovers_only_where_a_script_left_some() -> None:
    """Executors are forks of a zygote, in which Python knows its threads by the parent's numbers."""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        pytest.skip("this kernel keeps no lists of children: it always has to look")
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            looks = 0
            with scripts() as service, pytest.MonkeyPatch.context() as patch:
                ask(service, code="true")

                def look(leftovers: Leftovers) -> None:
                    nonlocal looks
                    looks += 1

                patch.setattr(Leftovers, "end", look)
                for _ in range(3):
                    ask(service, code="true")
                os.write(writer, str(looks).encode())
        finally:
            os._exit(0)  # whatever happened: the tests go on in the parent only
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == "0"
    assert os.waitpid(pid, 0)[1] == 0


def test_much_output_comes_through_and_too_much_fails_its_task_only() -> None:
    with scripts() as service:
        assert len(ask(service, code="head -c 1000000 /dev/zero")) == 1_000_000
        with pytest.raises(ServiceFailure, match="more than 16777216 bytes"):
            ask(service, code="yes")
        assert ask(service, code="echo well") == b"well\n"


def test_a_script_that_nobody_wants_any_more_is_ended() -> None:
    cancelled = {7}
    request = json.dumps({"language": "shell", "code": "sleep 99"}).encode()
    with scripts() as service:
        with pytest.raises(ServiceFailure, match="cancelled"):
            service.on_task_invoke(TaskContext(TaskId(7), "s1", request, 1, cancelled))
        assert ask(service, code="echo well") == b"well\n"


def test_a_long_script_or_one_with_a_nul_takes_the_long_way() -> None:
    assert script(code=f"printf {'x' * 100_000}") == b"x" * 100_000
    assert script(language="python", code="print(1)") == b"1\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "must be JSON"),
        (b"{", "must be JSON"),
        (b"echo \xff", "no UTF-8 text"),
        (b'{"language": "perl", "code": ""}', "allowed are 'shell' and 'python'"),
        (b'{"language": "shell"}', "code is missing"),
        (b'{"language": "shell", "code": "", "input": [256]}', "byte values"),
        (b'{"language": "shell", "code": "", "arguments": [1]}', "array of texts"),
        (b'{"language": "shell", "code": "", "reply": "x"}', "may be 'streams'"),
        (b'{"language": "shell", "code": "", "runtime": "no-such"}', "'no-such' is not an exec"),
    ],
)
def test_a_request_that_is_wrong_says_where(data: bytes | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ScriptService().on_task_invoke(task(data))
