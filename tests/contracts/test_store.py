"""What every storage engine promises to the engine loop."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    Barrier,
    BindingDeleted,
    CordonDeleted,
    CordonPut,
    SessionEvent,
    StoredTask,
    SubmittedRange,
    TenantDeleted,
    TenantPut,
    TokenDeleted,
    TokenPut,
)
from flame.model.credentials import Role, TokenId, TokenSpec
from flame.model.errors import IllegalTransition
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import KEPT_LOG_BYTES
from flame.model.resources import Resources
from flame.model.specs import (
    ApplicationSpec,
    Durability,
    Event,
    SessionState,
    ShimKind,
    TaskLimits,
    TaskState,
)
from flame.model.task_notes import TaskNotes
from flame.model.tenants import TenantSpec
from flame.storage import recovery
from flame.storage.memory import MemoryStore
from flame.storage.postgres import PostgresStore
from flame.storage.sqlite import SqliteStore
from flame.storage.store import Store
from tests.storage.records import (
    S1,
    S2,
    SUBMITTER,
    TENANT,
    Read,
    acknowledged,
    binding,
    deleted,
    lease_lost,
    logged,
    read,
    recorded,
    session_put,
    submitted,
)

ENOUGH = 1 << 30


_schemas = count(1)


class Engine:
    """One engine, and how its store comes back after a restart."""

    def __init__(self, kind: str, open_one: Callable[[], Store]) -> None:
        self.kind = kind
        self._open = open_one
        self.store = self._open()
        self.first = read(self.store.load())

    def restart(self) -> Read:
        """Load again. A memory store survives only as an object, as the simulator uses it."""
        if self.kind != "memory":
            self.store.close()
            self.store = self._open()
        return read(self.store.load())


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    match request.param:
        case "memory":
            engine = Engine("memory", MemoryStore)
        case "sqlite":
            engine = Engine("sqlite", lambda: SqliteStore(tmp_path / "flame.db"))
        case _:
            url = request.getfixturevalue("postgres").url()
            schema = f"contract {next(_schemas)}"
            engine = Engine("postgres", lambda: PostgresStore(url, schema=schema))
    yield engine
    engine.store.close()


@pytest.fixture
def store(engine: Engine) -> Store:
    engine.store.commit([session_put(S1), session_put(S2)], sync=False)
    return engine.store


def test_a_new_store_is_empty_and_starts_counting_at_one(engine: Engine) -> None:
    recovered = engine.first.recovered
    assert recovered.epoch == 1
    assert recovered.next_session == 1
    assert recovered.next_incarnation > 0
    assert (recovered.applications, recovered.sessions, recovered.bindings) == ([], [], [])
    assert engine.store.task(S1, TaskId(1)) is None
    assert engine.store.tasks(S1, 0, 10) == []
    assert engine.store.outcomes(S1, 0, ENOUGH) is None
    assert engine.store.first_kept(S1) == 0


def test_an_engine_says_what_it_is_for_benchmark_tables_and_logs(engine: Engine) -> None:
    assert engine.store.name in ("memory", "sqlite", "postgres")
    assert engine.store.settings


def test_every_start_has_a_higher_epoch_and_higher_incarnations(engine: Engine) -> None:
    """A lease of an earlier start must never look current."""
    second = engine.restart().recovered
    third = engine.restart().recovered
    assert engine.first.recovered.epoch < second.epoch < third.epoch
    assert second.next_incarnation > engine.first.recovered.next_incarnation + 1_000_000_000
    assert third.next_incarnation > second.next_incarnation


def test_a_submitted_task_is_pending_until_its_outcome_is_recorded(store: Store) -> None:
    store.commit([submitted(1, b"one", None, b"")], sync=False)
    assert store.task(S1, TaskId(1)) == StoredTask(TaskId(1), b"one", 2_000, TaskState.PENDING)
    assert store.task(S1, TaskId(2)) == StoredTask(TaskId(2), None, 2_000, TaskState.PENDING)
    store.commit([recorded(0, 1, outputs=[b"result"])], sync=False)
    assert store.task(S1, TaskId(1)) == StoredTask(
        TaskId(1), b"one", 2_000, TaskState.SUCCEEDED, output=b"result", finished_ms=3_000
    )
    third = store.task(S1, TaskId(3))
    assert third is not None
    assert (third.input, third.state) == (b"", TaskState.PENDING)
    assert store.task(S1, TaskId(4)) is None
    assert store.task(S1, TaskId(0)) is None
    assert store.task(S2, TaskId(1)) is None


def test_failures_keep_their_state_code_and_message(store: Store) -> None:
    failed = (TaskState.FAILED, 3, "Traceback …\nValueError: é")
    cancelled = (TaskState.CANCELLED, 4, "by its user")
    store.commit(
        [
            submitted(1, b"a", b"b", b"c"),
            recorded(0, 3, 1, 2, outputs=[None, b"ok", None], failures={0: failed, 2: cancelled}),
        ],
        sync=False,
    )
    states = [(t.state, t.output, t.failure) for t in store.tasks(S1, 0, 10)]
    assert states == [
        (TaskState.SUCCEEDED, b"ok", None),
        (TaskState.CANCELLED, None, cancelled),
        (TaskState.FAILED, None, failed),
    ]


def test_tasks_are_paged_by_rising_id_across_batches(store: Store) -> None:
    store.commit([submitted(1, b"1", b"2", b"3")], sync=False)
    store.commit([submitted(4, b"4"), submitted(5, b"5", b"6"), recorded(0, 5, 2)], sync=False)
    assert [t.task_id for t in store.tasks(S1, 0, 100)] == [1, 2, 3, 4, 5, 6]
    assert [t.task_id for t in store.tasks(S1, 1, 3)] == [2, 3, 4]
    assert [t.task_id for t in store.tasks(S1, 5, 3)] == [6]
    assert store.tasks(S1, 6, 3) == []
    assert store.tasks(S1, 0, 0) == []
    finished = [t.task_id for t in store.tasks(S1, 0, 100) if t.state is TaskState.SUCCEEDED]
    assert finished == [2, 5]


def test_a_task_is_found_whatever_the_order_in_which_tasks_ended(store: Store) -> None:
    """One straggler makes a batch of outcomes span nearly all ids."""
    count = 300
    store.commit([submitted(1, *(b"%d" % i for i in range(1, count + 1)))], sync=False)
    order = [*range(2, count, 2), *range(count - 1, 1, -2)]  # all but 1 and the last
    for position in range(0, len(order), 7):
        store.commit([recorded(position, *order[position : position + 7])], sync=False)
    store.commit([recorded(len(order), count)], sync=False)
    first = store.task(S1, TaskId(1))
    assert first is not None
    assert first.state is TaskState.PENDING
    for task in store.tasks(S1, 1, count):
        assert task.output == b"output %d" % task.task_id
        assert store.task(S1, task.task_id) == task


def test_outcomes_are_read_from_any_position_within_a_number_of_bytes(store: Store) -> None:
    failed = (TaskState.FAILED, 3, "no")
    batch = recorded(0, 1, 3, 2, outputs=[b"12345", None, b"123"], failures={1: failed})
    store.commit([submitted(1, b"", b"", b"", b""), batch, recorded(3, 4)], sync=False)
    whole = store.outcomes(S1, 0, 8)
    assert whole == batch
    tail = store.outcomes(S1, 1, ENOUGH)
    assert tail is not None
    assert tail.first_position == 1
    assert list(tail.task_ids) in ([3, 2], [3, 2, 4])  # small batches may be read together
    assert list(tail.outputs)[:2] == [None, b"123"]
    assert tail.failures == {0: failed}
    head = store.outcomes(S1, 0, 7)
    assert head is not None
    assert list(head.task_ids) == [1, 3]
    assert head.failures == {1: failed}
    one = store.outcomes(S1, 0, 0)
    assert one is not None
    assert list(one.task_ids) == [1]
    last = store.outcomes(S1, 3, ENOUGH)
    assert last is not None
    assert list(last.task_ids) == [4]
    assert store.outcomes(S1, 4, ENOUGH) is None


def test_a_restart_brings_back_sessions_with_their_counts_and_pending_tasks(
    engine: Engine, store: Store
) -> None:
    failed = (TaskState.FAILED, 3, "no")
    cancelled = (TaskState.CANCELLED, 4, "")
    store.commit(
        [
            submitted(1, b"1", b"2", b"3"),
            submitted(4, b"4", None, first_number=3),
            recorded(0, 4, 1, 2, failures={1: failed, 2: cancelled}),
            SessionEvent(S1, Event(1001, "bind failed: ü", 7)),
            SessionEvent(S1, Event(1001, "again", 8)),
            session_put(S2, state=SessionState.CLOSED, closed_ms=9),
        ],
        sync=True,
    )
    found = engine.restart()
    one, two = found.recovered.sessions
    assert one.put == session_put(S1)
    assert (one.next_task_id, one.log_end) == (6, 3)
    assert (one.succeeded, one.failed, one.cancelled) == (1, 1, 1)
    assert [event.message for event in one.events] == ["bind failed: ü", "again"]
    assert found.pending[S1] == [(TaskId(3), b"3", 2_000, 0), (TaskId(5), None, 2_000, 0)]
    assert two.put == session_put(S2, state=SessionState.CLOSED, closed_ms=9)
    assert (two.next_task_id, two.log_end) == (1, 0)
    assert found.recovered.next_session == 3


def test_tasks_come_back_with_the_limits_that_some_of_them_have(
    engine: Engine, store: Store
) -> None:
    limits = {0: TaskLimits(1, 2), 2: TaskLimits(0, 2**41)}
    batch = replace(submitted(1, b"1", None, b"3"), limits=limits)
    store.commit([batch, submitted(4, b"4", first_number=3), recorded(0, 1)], sync=False)
    assert [task.input for task in store.tasks(S1, 0, 9)] == [b"1", None, b"3", b"4"]
    found = engine.restart()
    assert [task[:2] for task in found.pending[S1]] == [(2, None), (3, b"3"), (4, b"4")]
    assert found.recovered.sessions[0].limits == {3: TaskLimits(0, 2**41)}


def test_tasks_come_back_with_what_was_said_of_some_of_them(engine: Engine, store: Store) -> None:
    said = {0: TaskNotes((("a", "b"),)), 2: TaskNotes((), "in/x", "out/y")}
    batch = replace(submitted(1, b"1", None, b"3"), notes=said)
    store.commit([batch, recorded(0, 1)], sync=False)
    assert [task.notes for task in store.tasks(S1, 0, 9)] == [said[0], TaskNotes(), said[2]]
    found = engine.restart()
    assert [task[:2] for task in found.pending[S1]] == [(2, None), (3, b"3")]
    assert found.recovered.sessions[0].notes == {3: said[2]}


def test_any_mixture_of_small_large_and_finished_batches_comes_back(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PAGE", 7)
    monkeypatch.setattr(recovery, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(recovery, "PIECE_TASKS", 16)
    draw = Random(5)
    pending: list[tuple[TaskId, bytes]] = []
    next_id, position = 1, 0
    for _ in range(300):
        size = draw.choice([0, 10, 3_000])
        inputs = [draw.randbytes(size) for _ in range(draw.randint(1, 5))]
        ids = range(next_id, next_id + len(inputs))
        share = draw.choice([0.0, 0.5, 1.0, 1.0])
        finished = [task_id for task_id in ids if draw.random() < share]
        store.commit([submitted(next_id, *inputs, first_number=next_id - 1)], sync=False)
        if finished:
            store.commit([recorded(position, *finished)], sync=False)
        pending += [(TaskId(i), inputs[i - next_id]) for i in ids if i not in finished]
        next_id, position = next_id + len(inputs), position + len(finished)
    found = engine.restart()
    assert [task[:2] for task in found.pending[S1]] == pending
    one = found.recovered.sessions[0]
    assert (one.next_task_id, one.log_end) == (next_id, position)
    assert one.submitters == {SUBMITTER: [SubmittedRange(0, TaskId(1), next_id - 1)]}


def test_adjacent_ranges_of_a_submitter_come_back_as_one(engine: Engine, store: Store) -> None:
    other = b"another"
    store.commit(
        [
            submitted(1, b"", b"", first_number=0),
            submitted(3, b"", first_number=2),
            submitted(4, b"", submitter=other, first_number=10),
            submitted(5, b"", b"", first_number=3),
            submitted(7, b"", submitter=b""),
        ],
        sync=False,
    )
    (one, _) = engine.restart().recovered.sessions
    assert one.submitters == {
        SUBMITTER: [SubmittedRange(0, TaskId(1), 3), SubmittedRange(3, TaskId(5), 2)],
        other: [SubmittedRange(10, TaskId(4), 1)],
    }


def test_attempts_that_lost_leases_spent_are_remembered(engine: Engine, store: Store) -> None:
    store.commit([submitted(1, b"1", b"2", b"3")], sync=False)
    store.commit(
        [
            lease_lost(1, 2, 3, charged=2, attempt=1),
            lease_lost(1, 2),
            lease_lost(2, charged=2, attempt=2),
        ],
        sync=False,
    )
    assert [t.attempts for t in store.tasks(S1, 0, 9)] == [0, 2, 0]
    store.commit([recorded(0, 1)], sync=False)
    assert [(p[0], p[3]) for p in engine.restart().pending[S1]] == [(2, 2), (3, 0)]


def test_applications_and_bindings_are_replaced_and_deleted(engine: Engine) -> None:
    spec = ApplicationSpec(
        shim=ShimKind.PYTHON,
        labels=("a", "b"),
        environments=(("K", "V"), ("L", "")),
        entry_point="m:f",
        pickled_service=b"\0\xff",
        pickled_with="3.11",
        local_modules=b"PK\0",
        reusable=True,
        delay_release=5,
    )
    engine.store.commit(
        [
            session_put(S1),
            ApplicationPut(TENANT, "render", ApplicationSpec(), 1),
            ApplicationPut(TENANT, "render", spec, 2),
            ApplicationPut(TENANT, "gone", spec, 2),
            ApplicationDeleted(TENANT, "gone"),
            binding("e-1", session=None),
            binding("e-1", incarnation=(1 << 32) + 9),
            binding("e-2"),
            BindingDeleted(ExecutorId("e-2")),
            Barrier(),
        ],
        sync=False,
    )
    recovered = engine.restart().recovered
    assert recovered.applications == [ApplicationPut(TENANT, "render", spec, 2)]
    assert recovered.bindings == [binding("e-1", incarnation=(1 << 32) + 9)]


def test_tenants_tokens_and_cordons_are_replaced_and_deleted(engine: Engine) -> None:
    first = TenantSpec(Tenant("research"), 2.0)
    research = TenantSpec(
        Tenant("research"),
        3.5,
        Resources(8000, 1 << 34, 1, (("license/x", 2),)),
        Resources(16000, 1 << 35),
        lends=False,
        max_queued_tasks=10,
        max_queued_bytes=1 << 40,
    )
    token = TokenSpec(Role.USER, (Tenant("research"), Tenant("é")), b"\0\xff" * 16, "Ada")
    engine.store.commit(
        [
            TenantPut(first, 1),
            TenantPut(research, 2),
            TenantPut(TenantSpec(Tenant("gone")), 2),
            TenantDeleted(Tenant("gone")),
            TokenPut(TokenId("abcdefgh"), token, 3),
            TokenPut(TokenId("revoked1"), token, 3),
            TokenDeleted(TokenId("revoked1")),
            CordonPut(NodeName("n-1"), False, 4),
            CordonPut(NodeName("n-1"), True, 5),
            CordonPut(NodeName("n-2"), True, 5),
            CordonDeleted(NodeName("n-2")),
        ],
        sync=False,
    )
    recovered = engine.restart().recovered
    assert recovered.tenants == [TenantPut(research, 2)]
    assert recovered.tokens == [TokenPut(TokenId("abcdefgh"), token, 3)]
    assert recovered.cordons == [CordonPut(NodeName("n-1"), True, 5)]


def test_a_deleted_session_is_gone_with_everything_beneath_it(engine: Engine, store: Store) -> None:
    store.commit(
        [
            submitted(1, b"1"),
            submitted(1, b"1", session=S2),
            recorded(0, 1),
            lease_lost(1, charged=1, attempt=1),
            SessionEvent(S1, Event(1, "", 1)),
        ],
        sync=False,
    )
    store.commit([deleted(S1)], sync=False)
    for _ in range(100):
        assert store.task(S1, TaskId(1)) is None
        assert store.outcomes(S1, 0, ENOUGH) is None
        assert store.tasks(S1, 0, 10) == []
        if not store.maintain():
            break
    assert not store.maintain()
    found = engine.restart()
    assert [s.put.session for s in found.recovered.sessions] == [S2]
    assert found.pending[S2] == [(TaskId(1), b"1", 2_000, 0)]


def test_the_number_of_a_deleted_session_is_never_used_again(engine: Engine, store: Store) -> None:
    store.commit([deleted(S2)], sync=False)
    assert engine.restart().recovered.next_session == 3
    engine.store.commit([session_put(SessionNumber(3)), deleted(SessionNumber(3))], sync=False)
    assert engine.restart().recovered.next_session == 4


def test_what_crosses_with_a_sessions_deletion_is_dropped(engine: Engine, store: Store) -> None:
    store.commit([submitted(1, b"1"), deleted(S1)], sync=False)
    store.commit(
        [
            recorded(0, 1),
            lease_lost(1),
            acknowledged(1),
            SessionEvent(S1, Event(1, "", 1)),
            submitted(2, b"2"),
        ],
        sync=False,
    )
    assert store.task(S1, TaskId(1)) is None
    assert store.outcomes(S1, 0, ENOUGH) is None
    assert [s.put.session for s in engine.restart().recovered.sessions] == [S2]


def test_a_record_of_a_session_that_never_existed_is_a_bug(store: Store) -> None:
    with pytest.raises(IllegalTransition, match="session 99"):
        store.commit([submitted(1, b"1", session=SessionNumber(99))], sync=False)


def test_an_empty_group_and_a_barrier_store_nothing(store: Store) -> None:
    store.commit([], sync=False)
    store.commit([Barrier()], sync=True)
    assert store.tasks(S1, 0, 10) == []


def test_a_reader_beside_the_writer_sees_whole_groups_only(store: Store) -> None:
    """Each group submits ten tasks in two batches: a reader never sees one without the other."""
    problems: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.0005):  # lets the writer have the interpreter
            seen = len(store.tasks(S1, 0, 2_000))
            if seen % 10:
                problems.append(seen)
            outcome = store.outcomes(S1, 0, ENOUGH)
            if outcome is not None and len(outcome.task_ids) % 10:
                problems.append(outcome)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for group in range(100):
        first = group * 10 + 1
        five = [b"x"] * 5
        store.commit(
            [
                submitted(first, *five),
                submitted(first + 5, *five),
                recorded(first - 1, *range(first, first + 10)),
            ],
            sync=False,
        )
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(store.tasks(S1, 0, 2_000)) == 1_000


def test_a_memory_session_reads_like_any_other_while_it_lasts(engine: Engine) -> None:
    store = engine.store
    store.commit(
        [
            session_put(S1, durability=Durability.MEMORY),
            submitted(1, b"1", b"2"),
            recorded(0, 2, 1),
        ],
        sync=False,
    )
    store.commit([acknowledged(2)], sync=False)
    assert [t.output for t in store.tasks(S1, 0, 10)] == [b"output 1", b"output 2"]
    assert store.outcomes(S1, 0, ENOUGH) == recorded(0, 2, 1)
    assert store.first_kept(S1) == 0
    store.commit([deleted(S1)], sync=False)
    assert store.tasks(S1, 0, 10) == []
    assert engine.restart().recovered.next_session == 2


def test_what_tasks_wrote_is_read_by_rising_id_and_survives_a_restart(
    engine: Engine, store: Store
) -> None:
    store.commit([logged(3, 1), logged(2, session=S2), logged(5)], sync=False)
    engine.restart()
    everything = [*logged(1, 3, 5).logs]
    assert engine.store.logs(S1, 0, 10) == (everything, False)
    assert engine.store.logs(S1, 1, 1) == (everything[1:2], False)
    assert engine.store.logs(S1, 5, 10) == ([], False)
    engine.store.commit([deleted(S1)], sync=False)
    assert engine.store.logs(S1, 0, 10) == ([], False)
    engine.store.commit([logged(6)], sync=False)  # crossed with the deletion
    while engine.store.maintain():
        pass
    assert engine.store.logs(S2, 0, 10) == ([*logged(2).logs], False)


def test_a_later_attempts_log_takes_the_place_of_the_earlier_one(store: Store) -> None:
    store.commit([logged(1, 2), logged(1, attempt=2, stdout=b"again")], sync=False)
    expected = [*logged(1, attempt=2, stdout=b"again").logs, *logged(2).logs]
    assert store.logs(S1, 0, 10) == (expected, False)


def test_a_sessions_oldest_logs_make_room_also_after_a_restart(
    engine: Engine, store: Store
) -> None:
    large, tasks = bytes(4 * 1024 * 1024), KEPT_LOG_BYTES // (4 * 1024 * 1024)
    for task_id in range(1, tasks + 3):
        store.commit([logged(task_id, stdout=large)], sync=False)
        if task_id == 2:
            engine.restart()
            store = engine.store
    logs, dropped = store.logs(S1, 0, 100)
    assert dropped
    assert [log.task_id for log in logs] == list(range(3, tasks + 3))
    assert store.logs(S2, 0, 100) == ([], False)


def test_a_log_of_a_session_that_never_existed_is_a_bug(store: Store) -> None:
    with pytest.raises(IllegalTransition):
        store.commit([logged(1, session=SessionNumber(99))], sync=False)
