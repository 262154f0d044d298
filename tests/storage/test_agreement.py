"""All engines against a model that is too simple to be wrong, over any sequence of records.

Records are gathered into a group and committed together; now and then the store is loaded again,
which for SQLite means closing and opening the file, and for PostgreSQL leading again. The memory engine is
loaded again as an object: nothing of it would survive a process.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    BindingDeleted,
    BindingPut,
    LeaseLost,
    OutcomesRecorded,
    Record,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    StoredTask,
    TasksSubmitted,
)
from flame.model.attempts import Loss, keep
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.specs import (
    ApplicationSpec,
    Event,
    Failure,
    SessionSpec,
    SessionState,
    TaskState,
)
from flame.storage.memory import MemoryStore
from flame.storage.postgres import PostgresStore
from flame.storage.sqlite import SqliteStore
from flame.storage.store import Store
from tests.postgres_server import PostgresServer
from tests.storage.records import read

payloads = st.none() | st.binary(max_size=20) | st.just(b"long" * 5_000)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
times = st.integers(0, 2**41)


@dataclass
class ModelSession:
    """What one session should look like."""

    put: SessionPut
    tasks: dict[int, StoredTask] = field(default_factory=dict)
    log: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    numbers: dict[bytes, dict[int, int]] = field(default_factory=dict)  # number -> task id

    @property
    def pending(self) -> list[int]:
        return [i for i, task in self.tasks.items() if not task.state.is_final]


_schemas = count(1)
_server: PostgresServer | None = None


@pytest.fixture(autouse=True, scope="module")
def _postgres(postgres: PostgresServer) -> Iterator[None]:
    """A state machine takes no fixtures, so the server is left where it looks."""
    global _server
    _server = postgres
    yield
    _server = None


class EnginesAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "flame.db"
        self.memory = MemoryStore()
        self.sqlite = SqliteStore(self.path)
        self.schema = f"agreement {next(_schemas)}"
        self.postgres = self.open_postgres()
        self.sessions: dict[int, ModelSession] = {}
        self.applications: dict[tuple[str, str], ApplicationPut] = {}
        self.bindings: dict[str, BindingPut] = {}
        self.group: list[Record] = []
        self.next_session = 1
        self.loads = 0

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.memory, self.sqlite, self.postgres

    def open_postgres(self) -> PostgresStore:
        assert _server is not None
        return PostgresStore(_server.url(), schema=self.schema)

    def teardown(self) -> None:
        self.sqlite.close()
        self.postgres.close()
        self.directory.cleanup()

    @initialize()
    def first_load(self) -> None:
        self.load()

    # --- Records -----------------------------------------------------------------------------

    @rule(name=texts, data=payloads, created_ms=times)
    def open_session(self, name: str, data: bytes | None, created_ms: int) -> None:
        spec = SessionSpec("app", common_data=data)
        put = SessionPut(
            SessionNumber(self.next_session), Tenant("t"), name, spec, SessionState.OPEN, created_ms
        )
        self.next_session += 1
        self.sessions[put.session] = ModelSession(put)
        self.group.append(put)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), closed_ms=times)
    def close_session(self, data: st.DataObject, closed_ms: int) -> None:
        session = self.choose(data)
        session.put = replace(session.put, state=SessionState.CLOSED, closed_ms=closed_ms)
        self.group.append(session.put)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def delete_session(self, data: st.DataObject) -> None:
        number = self.choose(data).put.session
        del self.sessions[number]
        self.group.append(SessionDeleted(number))

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        inputs=st.lists(payloads, min_size=1, max_size=8),
        submitter=st.sampled_from([b"", b"one", b"two"]),
        created_ms=times,
    )
    def submit(
        self, data: st.DataObject, inputs: list[bytes | None], submitter: bytes, created_ms: int
    ) -> None:
        session = self.choose(data)
        first_id = len(session.tasks) + 1
        numbers = session.numbers.setdefault(submitter, {})
        first_number = len(numbers)
        for index, given in enumerate(inputs):
            task_id = TaskId(first_id + index)
            numbers[first_number + index] = task_id
            session.tasks[task_id] = StoredTask(task_id, given, created_ms, TaskState.PENDING)
        self.group.append(
            TasksSubmitted(
                session.put.session, submitter, first_number, TaskId(first_id), inputs, created_ms
            )
        )

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), output=payloads, message=texts, finished_ms=times)
    def finish(
        self, data: st.DataObject, output: bytes | None, message: str, finished_ms: int
    ) -> None:
        session = self.choose(data)
        if not session.pending:
            return
        ids = data.draw(st.lists(st.sampled_from(session.pending), min_size=1, unique=True))
        states = data.draw(
            st.lists(
                st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED]),
                min_size=len(ids),
                max_size=len(ids),
            )
        )
        outputs: list[bytes | None] = []
        failures: dict[int, Failure] = {}
        for index, (task_id, state) in enumerate(zip(ids, states, strict=True)):
            failure: Failure | None = None
            if state is not TaskState.SUCCEEDED:
                failure = failures[index] = (state, int(state), message)
            outputs.append(output if failure is None else None)
            session.tasks[task_id] = replace(
                session.tasks[task_id],
                state=state,
                output=outputs[-1],
                failure=failure,
                finished_ms=finished_ms,
            )
        self.group.append(
            OutcomesRecorded(
                session.put.session,
                len(session.log),
                [TaskId(task_id) for task_id in ids],
                outputs,
                failures,
                finished_ms,
            )
        )
        session.log += ids

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), charge=st.booleans())
    def lose_lease(self, data: st.DataObject, charge: bool) -> None:
        session = self.choose(data)
        if not session.pending:
            return
        task_id = TaskId(data.draw(st.sampled_from(session.pending)))
        attempt = session.tasks[task_id].attempts + 1 if charge else 0
        if charge:
            known = list(session.tasks[task_id].history)
            keep(known, attempt, "n", "e", Loss("lost"), 1)
            session.tasks[task_id] = replace(
                session.tasks[task_id], attempts=attempt, history=tuple(known)
            )
        self.group.append(
            LeaseLost(
                session.put.session,
                ExecutorId("e"),
                5,
                [task_id],
                task_id if charge else TaskId(0),
                attempt,
                Loss("lost"),
                1,
                NodeName("n"),
            )
        )

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), message=texts)
    def add_event(self, data: st.DataObject, message: str) -> None:
        session = self.choose(data)
        session.events.append(Event(1001, message, 1))
        self.group.append(SessionEvent(session.put.session, session.events[-1]))

    @rule(name=st.sampled_from("abc"), text=texts, delete=st.booleans())
    def change_application(self, name: str, text: str, delete: bool) -> None:
        tenant = Tenant("t")
        if delete:
            self.applications.pop((tenant, name), None)
            self.group.append(ApplicationDeleted(tenant, name))
        else:
            put = ApplicationPut(tenant, name, ApplicationSpec(description=text), 1)
            self.applications[tenant, name] = put
            self.group.append(put)

    @rule(executor=st.sampled_from("efg"), incarnation=st.integers(1, 2**62), delete=st.booleans())
    def change_binding(self, executor: str, incarnation: int, delete: bool) -> None:
        if delete:
            self.bindings.pop(executor, None)
            self.group.append(BindingDeleted(ExecutorId(executor)))
        else:
            put = BindingPut(
                ExecutorId(executor), incarnation, NodeName("n"), None, "app", Tenant("t")
            )
            self.bindings[executor] = put
            self.group.append(put)

    # --- Committing and looking --------------------------------------------------------------

    @rule(sync=st.booleans())
    def commit(self, sync: bool) -> None:
        for store in self.stores:
            store.commit(self.group, sync=sync)
        self.group = []

    @rule()
    def restart(self) -> None:
        self.commit(sync=False)
        self.sqlite.close()
        self.sqlite = SqliteStore(self.path)
        self.postgres.close()
        self.postgres = self.open_postgres()
        self.load()

    @rule()
    def maintain(self) -> None:
        for store in self.stores:
            store.maintain()

    def load(self) -> None:
        self.loads += 1
        in_memory, in_sqlite, in_postgres = (read(store.load()) for store in self.stores)
        assert in_memory == in_sqlite == in_postgres
        recovered = in_sqlite.recovered
        assert recovered.epoch == self.loads
        assert recovered.next_session == self.next_session
        assert recovered.applications == [self.applications[k] for k in sorted(self.applications)]
        assert recovered.bindings == [self.bindings[k] for k in sorted(self.bindings)]
        assert [s.put.session for s in recovered.sessions] == list(self.sessions)
        for found in recovered.sessions:
            session = self.sessions[found.put.session]
            assert found.put == session.put
            assert found.events == session.events
            assert found.next_task_id == len(session.tasks) + 1
            assert found.log_end == len(session.log)
            final = [task.state for task in session.tasks.values()]
            assert found.succeeded == final.count(TaskState.SUCCEEDED)
            assert found.failed == final.count(TaskState.FAILED)
            assert found.cancelled == final.count(TaskState.CANCELLED)
            assert {
                submitter: {
                    r.first_number + i: r.first_id + i for r in ranges for i in range(r.count)
                }
                for submitter, ranges in found.submitters.items()
            } == {submitter: known for submitter, known in session.numbers.items() if submitter}
            assert in_sqlite.pending[found.put.session] == [
                (task.task_id, task.input, task.created_ms, task.attempts)
                for task in (session.tasks[i] for i in session.pending)
            ]

    @invariant()
    def tasks_and_outcomes_read_as_they_were_written(self) -> None:
        if self.group:
            return  # not committed yet
        for store in self.stores:
            for number, session in self.sessions.items():
                key = SessionNumber(number)
                expected = list(session.tasks.values())
                assert store.tasks(key, 0, 1_000) == expected
                half = len(expected) // 2
                assert store.tasks(key, half, 3) == expected[half : half + 3]
                for task in expected[half : half + 2]:
                    assert store.task(key, task.task_id) == task
                assert store.task(key, TaskId(len(expected) + 1)) is None
                log: list[int] = []
                while (batch := store.outcomes(key, len(log), 25)) is not None:
                    assert batch.first_position == len(log)
                    for index, task_id in enumerate(batch.task_ids):
                        assert batch.outputs[index] == session.tasks[task_id].output
                        assert batch.failures.get(index) == session.tasks[task_id].failure
                    log += batch.task_ids
                assert log == session.log

    def choose(self, data: st.DataObject) -> ModelSession:
        return self.sessions[data.draw(st.sampled_from(sorted(self.sessions)))]


EnginesAgree.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,  # a commit may wait for the disk
    suppress_health_check=[HealthCheck.too_slow],
)
TestEnginesAgree = EnginesAgree.TestCase
