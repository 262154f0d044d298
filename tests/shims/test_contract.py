"""What every shim does the same way, and where they differ: the table in docs/shims.md is this one.

Shims are called as an executor calls them, in this process; the services are ``obedient.py``.
"""

import contextlib
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flame.executor_manager.cell import ServiceEnd
from flame.executor_manager.outbox import Failed, Outbox
from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, Shim, ShimRequest
from flame.executor_manager.shims.program import Leftovers
from flame.executor_manager.shims.registry import make_shim
from flame.model.ids import TaskId
from flame.model.service import (
    ApplicationContext,
    NotedTaskContext,
    SessionContext,
    TaskContext,
)
from flame.model.specs import ApplicationSpec, ShimKind
from tests.assignments import assigned
from tests.shims.obedient import told_by

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
TABLE = ROOT / "docs" / "shims.md"
MIB = 1024 * 1024
LIMIT = 2 * MIB
DEADLINE = 60.0  # seconds for anything that a test waits for

# Shims with a program for the whole binding, with one for each task, and with none.
LASTING = ("host", "grpc", "http", "http by port", "stdio length", "stdio lines")
PER_TASK = ("stdio none", "shell")
WASM = ("wasm", "wasm component")
SHIMS = ("python", *LASTING, *PER_TASK, *WASM, "log")

ALL = dict.fromkeys(SHIMS, "yes")
#: What each shim does about each behaviour, in the words of the table.
BEHAVIOURS: dict[str, dict[str, str]] = {
    "an input of bytes comes through": ALL | {"shell": "it is the script", "log": "shown"},
    "no input": ALL
    | {"stdio none": "empty stdin", "wasm": "empty stdin", "shell": "fails", "log": "shown"}
    | {"wasm component": "empty"},
    "an input of 1 MiB": ALL | {"shell": "it is the script", "log": "shown"},
    "a failure's text reaches the client": ALL
    | dict.fromkeys((*PER_TASK, "wasm"), "stderr")
    | {"log": "-"},
    "an output over the limit fails the task only": ALL
    | {"stdio length": "and the program is started again"}
    | {"stdio lines": "and the program is started again"}
    | {"log": "-"},
    "a service may refuse its session": ALL | dict.fromkeys((*PER_TASK, *WASM, "log"), "-"),
    "a service hears that its session is over": ALL | dict.fromkeys((*PER_TASK, *WASM, "log"), "-"),
    "a service that dies": dict.fromkeys(("python", *LASTING), "costs the task an attempt")
    | dict.fromkeys((*PER_TASK, *WASM), "fails the task")
    | {"log": "-"},
    "a service that is never ready is named": dict.fromkeys(SHIMS, "-")
    | dict.fromkeys(LASTING, "yes"),
    "a task that is cancelled": dict.fromkeys(LASTING, "runs on")
    | {"python": "can see it", "http": "loses its connection"}
    | {"http by port": "loses its connection"}
    | dict.fromkeys((*PER_TASK, *WASM), "is ended")
    | {"log": "-"},
    "labels and places of a task": dict.fromkeys(SHIMS, "yes")
    | dict.fromkeys(("http", "http by port"), "headers")
    | dict.fromkeys((*PER_TASK, *WASM), "variables")
    | dict.fromkeys(("stdio length", "stdio lines"), "in its frame")
    | {"log": "shown"},
    "task_timeout": dict.fromkeys(SHIMS, "yes") | {"python": "-", "host": "-", "log": "-"},
    "an option that is not known is refused": ALL,
}


def shim_spec(shim: str, *more: str, **options: str) -> ApplicationSpec:
    kind, _, how = shim.partition(" ")
    named = dict(options)
    arguments: tuple[str, ...] = ("-S", str(HERE / "obedient.py"), how or kind, *more)
    command, entry_point = sys.executable, ""
    match kind:
        case "python":
            entry_point = "tests.shims.obedient_service:Obedient"
        case "stdio":
            named["frames"] = how
        case "http":
            named |= {"address": "port"} if how else {}
            arguments = ("-S", str(HERE / "obedient.py"), "http", *more)
        case "shell":
            command, arguments = "sh", ()
        case "wasm":
            file = "obedient_component.wat" if how else "obedient.wat"
            command, arguments = str(HERE / file), ()
        case "host" | "grpc":
            arguments = arguments[1:]  # grpc is a site package
    return ApplicationSpec(
        shim=ShimKind[kind.upper()],
        command=command,
        arguments=arguments,
        entry_point=entry_point,
        environments=(("PYTHONPATH", f"{ROOT / 'src'}"),),
        shim_options=tuple(named.items()),
    )


class Running:
    """A shim, as an executor has it."""

    def __init__(self, directory: Path, spec: ApplicationSpec) -> None:
        self.died: list[tuple[str, ServiceEnd | None]] = []
        self.death = threading.Event()
        own = directory / "e1"
        own.mkdir(exist_ok=True)
        self.outbox = Outbox(LIMIT)
        self.shim: Shim = make_shim(
            ShimRequest("app", spec, assigned(own, max_output_bytes=LIMIT), self._on_death)
        )

    def _on_death(self, reason: str, end: ServiceEnd | None = None) -> None:
        self.died.append((reason, end))
        self.death.set()

    def enter(self, common_data: bytes | None = None) -> None:
        self.shim.enter(SessionContext("s1", ApplicationContext("app"), common_data))

    def task(
        self,
        data: bytes | None,
        cancelled: Any = frozenset(),
        said: tuple[dict[str, str], str | None, str | None] | None = None,
    ) -> bytes | Failed | None:
        """Return what the session manager would get: outputs over the limit are failures there."""
        context = TaskContext(TaskId(1), "s1", data, 1, cancelled)
        if said is not None:
            context = NotedTaskContext(context, *said)
        try:
            output: Any = self.shim.invoke(context)
        except (ServiceFailure, ServiceUnusable) as error:
            output = Failed(error)
        except Exception as error:
            output = Failed(repr(error))
        batch = self.outbox.take(deque([(1, 1, output, 0, 0)]))
        assert batch is not None
        failures = list(batch.frame.failures)
        return Failed(failures[0].message) if failures else output


@contextlib.contextmanager
def running(directory: Path, spec: ApplicationSpec) -> Iterator[Running]:
    shim = Running(directory, spec)
    try:
        yield shim
    finally:
        shim.shim.close()


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Shims that have entered a session, each for all tests that leave it in order."""
    with contextlib.ExitStack() as stack:
        known: dict[str, Running] = {}

        def get(shim: str) -> Running:
            if shim not in known:
                directory = tmp_path_factory.mktemp("x")
                known[shim] = stack.enter_context(running(directory, shim_spec(shim)))
                known[shim].enter()
            return known[shim]

        yield get


def does(behaviour: str, *answers: str) -> pytest.MarkDecorator:
    """Run a test for the shims for which the table has this."""
    cells = BEHAVIOURS[behaviour]
    shims = [shim for shim in SHIMS if not answers or cells[shim] in answers]
    assert shims
    return pytest.mark.parametrize("shim", shims)


def script(order: bytes) -> bytes:
    """What a script of the shell shim has to say to do what ``obedient.py`` does."""
    word, _, rest = order.partition(b" ")
    match word:
        case b"!fail":
            return b"echo '%s' >&2; exit 3" % rest
        case b"!big":
            return b"head -c %s /dev/zero" % rest
        case b"!told":
            return b"env -0 | grep -z ^FLAME_; true"
        case b"!wait":
            return b"sleep 600 & sleep 600"
        case b"!die":
            return b"kill -9 $$"
    return b'tail -c +24 "$0"; exit\n' + order


def order(shim: str, text: bytes) -> bytes:
    return script(text) if shim == "shell" else text


@does("an input of bytes comes through")
def test_an_input_comes_through(bound: Any, shim: str) -> None:
    for data in (b"one", bytes(range(256)), b"x" * MIB):
        answer = bound(shim).task(order(shim, data))
        assert answer == (None if shim == "log" else data)


@does("no input")
def test_no_input_is_told_from_an_empty_one(bound: Any, shim: str) -> None:
    none = {"empty stdin": b"", "empty": b"", "fails": "the task has no input"}.get(
        BEHAVIOURS["no input"][shim]
    )
    answer = bound(shim).task(None)
    assert answer == none or (isinstance(answer, Failed) and str(none) in answer)
    assert bound(shim).task(b"") == (None if shim == "log" else b"")


@does("a failure's text reaches the client", "yes", "stderr")
def test_a_task_that_fails_says_why_and_the_next_one_runs(bound: Any, shim: str) -> None:
    answer = bound(shim).task(order(shim, b"!fail the reason"))
    assert isinstance(answer, Failed)
    assert "the reason" in answer
    assert bound(shim).task(order(shim, b"x")) == b"x"


@does("an output over the limit fails the task only", "yes", "and the program is started again")
def test_an_output_over_the_limit_fails_its_task_only(bound: Any, shim: str) -> None:
    answer = bound(shim).task(order(shim, b"!big %d" % (LIMIT + 1)))
    assert isinstance(answer, Failed)
    assert str(LIMIT) in answer
    assert bound(shim).task(order(shim, b"x")) == b"x"
    assert bound(shim).died == []


@does("a service may refuse its session", "yes")
def test_a_service_refuses_its_session_with_a_reason(tmp_path: Path, shim: str) -> None:
    with running(tmp_path, shim_spec(shim)) as own:
        with pytest.raises(Exception, match="no model here"):
            own.enter(b"!refuse no model here")
        assert own.died == []


@does("a service hears that its session is over", "yes")
def test_a_service_hears_that_its_session_is_over(
    tmp_path: Path, shim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT", str(tmp_path / "left"))
    with running(tmp_path, shim_spec(shim)) as own:
        own.enter()
        own.shim.leave()
        assert (tmp_path / "left").exists()
        assert own.died == []


@does("a service that dies", "costs the task an attempt")
def test_the_death_of_a_service_ends_the_executor(tmp_path: Path, shim: str) -> None:
    with running(tmp_path, shim_spec(shim)) as own:
        own.enter(b"common")
        if shim == "python":
            with pytest.raises(SystemExit):
                own.task(b"!die")
            return
        # It does not come back from the call; a real executor ends.
        caller = threading.Thread(target=own.task, args=(b"!die",), daemon=True)
        caller.start()
        assert own.death.wait(DEADLINE)
        ((reason, end),) = own.died
        assert reason == "service exited with code 7"
        assert end is not None
        assert (end.code, end.pid in Leftovers.started) == (7, True)
    caller.join(DEADLINE)
    assert not caller.is_alive()


@does("a service that dies", "fails the task")
def test_the_death_of_a_process_fails_its_task(bound: Any, shim: str) -> None:
    answer = bound(shim).task(order(shim, b"!die"))
    assert isinstance(answer, Failed)
    assert any(why in answer for why in ("code 7", "SIGKILL", "wasm trap: wasm `unreachable`"))
    assert bound(shim).task(order(shim, b"x")) == b"x"


@does("a service that is never ready is named", "yes")
def test_a_service_that_is_never_ready_is_given_up(tmp_path: Path, shim: str) -> None:
    name = "enter_timeout" if shim.startswith("stdio") else "start_timeout"
    spec = shim_spec(shim, "slow", **{name: "0.3"})
    with (
        pytest.raises((ServiceUnusable, ServiceFailure), match=r"within 0.3 s"),
        running(tmp_path, spec) as own,
    ):
        own.enter()


class Cancelled:
    """Tasks, of which one is cancelled as soon as somebody has looked."""

    looked = False

    def __contains__(self, task: object) -> bool:
        looked, self.looked = self.looked, True
        return looked


@does("a task that is cancelled", "can see it", "loses its connection", "is ended")
def test_a_cancelled_task_does_not_go_on(tmp_path: Path, shim: str) -> None:
    with running(tmp_path, shim_spec(shim)) as own:
        own.enter()
        answer = own.task(order(shim, b"!wait"), Cancelled())
        assert answer == b"stopped" or (isinstance(answer, Failed) and "cancelled" in answer)
        assert own.task(order(shim, b"x")) == b"x"
        assert own.died == []


@does("a task that is cancelled", "runs on")
def test_a_cancelled_task_runs_on(bound: Any, shim: str) -> None:
    assert bound(shim).task(b"x", frozenset({1})) == b"x"


def told(answer: bytes | Failed | None) -> dict[str, Any]:
    """What a service was told, be it JSON or its environment."""
    assert isinstance(answer, bytes)
    if answer.startswith(b"{"):
        return dict(json.loads(answer))
    texts = answer.decode().split("\0")
    return told_by(dict(text.split("=", 1) for text in texts if text))


@does("labels and places of a task", "yes", "headers", "variables", "in its frame")
def test_a_service_is_told_what_was_said_of_a_task(bound: Any, shim: str) -> None:
    labels = {"run": "7", "a name": "ein Wert: 'é' \"=\n"}
    paths = "/srv/in put/ä", "/srv/out"
    answer = bound(shim).task(order(shim, b"!told"), said=(labels, *paths))
    wanted = {"labels": labels, "input_path": paths[0], "output_path": paths[1]}
    assert told(answer) == wanted
    assert told(bound(shim).task(order(shim, b"!told"))) == {}  # nothing of the task before
    only = bound(shim).task(order(shim, b"!told"), said=({}, None, "/out"))
    assert told(only) == {"output_path": "/out"}


@does("task_timeout", "yes")
def test_a_task_that_takes_too_long_fails_and_the_next_one_runs(tmp_path: Path, shim: str) -> None:
    limit = "2" if shim in PER_TASK else "0.3"  # a process has to start within it
    with running(tmp_path, shim_spec(shim, task_timeout=limit)) as own:
        own.enter()
        answer = own.task(order(shim, b"!wait"))
        assert isinstance(answer, Failed)
        assert f"{limit} s" in answer
        if shim != "grpc":  # it has two threads, and one of them waits
            assert own.task(order(shim, b"x")) == b"x"
        assert own.died == []


@does("an option that is not known is refused")
def test_an_option_that_is_not_known_is_refused(tmp_path: Path, shim: str) -> None:
    with pytest.raises(ServiceUnusable, match=r"shim_options\.colour is not known .* allowed are"):
        Running(tmp_path, shim_spec(shim, colour="blue"))


def table() -> str:
    """The table of docs/shims.md."""
    rows = [["", *SHIMS], ["---"] * (len(SHIMS) + 1)]
    rows += [[what, *(cells[shim] for shim in SHIMS)] for what, cells in BEHAVIOURS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_documented_table_is_this_one() -> None:
    assert table() in TABLE.read_text(), f"docs/shims.md should have:\n{table()}"


if __name__ == "__main__":
    os.write(1, table().encode())
