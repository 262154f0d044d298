"""Sessions over a real task channel, against a manager that can be told to misbehave."""

import socket
import threading
import time

import pytest

import flame
from flame.model.errors import (
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    TaskCancelled,
    TaskFailed,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from flame.model.specs import EventCode
from flame.sdk import outage
from flame.wire import frames, v1
from tests.sdk.fake_manager import TOKEN, FakeManager
from tests.waiting import wait_until


def test_ten_thousand_tasks_each_get_their_own_output(client: flame.Client) -> None:
    session = client.create_session("app")
    inputs = [str(index).encode() for index in range(10_000)]
    futures = [session.run(data) for data in inputs]
    assert [future.result(10) for future in futures] == [data[::-1] for data in inputs]
    assert sorted(future.task_id or 0 for future in futures) == list(range(1, 10_001))


def test_a_framed_port_that_nobody_answers_leaves_the_client_on_grpc(manager: FakeManager) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        manager.framed = frames.FramedAddress(port=unused.getsockname()[1], local="nobody")
        with flame.connect(manager.endpoint, token=TOKEN) as client:
            assert client.create_session("app").invoke(b"ab", timeout=10) == b"ba"


def test_a_framed_port_of_another_program_leaves_the_client_on_grpc(manager: FakeManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        manager.framed = frames.FramedAddress(port=other.getsockname()[1])

        def hang_up() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1024)

        stranger = threading.Thread(target=hang_up)
        stranger.start()
        with flame.connect(manager.endpoint, token=TOKEN) as client:
            assert client.create_session("app").invoke(b"ab", timeout=10) == b"ba"
        stranger.join(10)


def test_no_input_and_empty_input_are_different(client: flame.Client) -> None:
    session = client.create_session("app")
    assert session.invoke(None, timeout=10) is None
    assert session.invoke(b"", timeout=10) == b""
    assert session.invoke(bytearray(b"ab"), timeout=10) == b"ba"
    assert session.invoke(memoryview(b"ab"), timeout=10) == b"ba"


def test_map_yields_outputs_in_the_order_of_inputs(client: flame.Client) -> None:
    session = client.create_session("app")
    inputs = (str(index).encode() for index in range(20_000))
    expected = [str(index).encode()[::-1] for index in range(20_000)]
    assert list(session.map(inputs)) == expected


def test_tasks_are_batched(client: flame.Client, manager: FakeManager) -> None:
    session = client.create_session("app")
    for future in [session.run(b"x") for _ in range(50_000)]:
        future.result(10)
    assert len(manager.submits) < 5000


def test_many_threads_share_a_session(client: flame.Client) -> None:
    session = client.create_session("app")
    wrong: list[bytes] = []

    def work(name: bytes) -> None:
        for index in range(500):
            data = name + str(index).encode()
            if session.invoke(data, timeout=10) != data[::-1]:
                wrong.append(data)

    threads = [threading.Thread(target=work, args=(bytes([97 + i]),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_sessions_share_one_stream(client: flame.Client, manager: FakeManager) -> None:
    sessions = [client.create_session("app") for _ in range(20)]
    futures = [session.run(session.name.encode()) for session in sessions for _ in range(10)]
    names = [session.name.encode()[::-1] for session in sessions for _ in range(10)]
    assert [future.result(10) for future in futures] == names
    assert manager.hellos == 1


# --- lost connections --------------------------------------------------------------------------


def test_a_lost_stream_resubmits_exactly_what_was_not_acknowledged(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    assert session.invoke(b"first", timeout=10) == b"tsrif"
    manager.hold_accepts = True
    futures = [session.run(str(index).encode()) for index in range(3000)]
    wait_until(lambda: sum(count for _, _, count in manager.submits) == 3001, "all were submitted")
    before = list(manager.submits)
    manager.drop_streams()  # while accepts are held: the last submit may still be at work
    manager.hold_accepts = False
    manager.release()
    for index, future in enumerate(futures):
        assert future.result(10) == str(index).encode()[::-1]
    again = manager.submits[len(before) :]
    assert [(first, count) for _, first, count in again] == [
        (first, count) for _, first, count in before[1:]
    ]
    assert len(manager.sessions[session.name].inputs) == 3001
    assert manager.hellos == 2


def test_a_restarted_manager_is_a_non_event(client: flame.Client, manager: FakeManager) -> None:
    session = client.create_session("app")
    manager.hold_outcomes = True
    early = [session.run(str(index).encode()) for index in range(100)]
    session.flush()
    manager.down()
    late = [session.run(str(index).encode()) for index in range(100, 200)]
    manager.hold_outcomes = False
    manager.up()
    outputs = [future.result(20) for future in early + late]
    assert outputs == [str(index).encode()[::-1] for index in range(200)]
    assert len(manager.sessions[session.name].inputs) == 200
    assert session.info().number == 1


def test_an_outage_is_told_once_and_so_is_its_end(
    client: flame.Client,
    manager: FakeManager,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == outage.__name__]

    monkeypatch.setattr(outage, "PATIENCE", 0.3)
    session = client.create_session("app")
    manager.down()
    future = session.run(b"ab")
    gone = f"the session manager at {manager.endpoint} does not answer; waiting for it"
    wait_until(lambda: told() == [gone], "the outage is told")
    time.sleep(1.0)  # further tries fail, without a word
    manager.up()
    assert future.result(20) == b"ba"
    assert told() == [gone, f"the session manager at {manager.endpoint} answers again"]
    manager.drop_streams()  # and one that is over at once is none
    assert session.invoke(b"cd", timeout=20) == b"dc"
    time.sleep(0.6)
    assert len(told()) == 2
    assert capsys.readouterr().out == ""


def test_streams_that_break_again_and_again_lose_and_repeat_nothing(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    futures = []
    for step in range(8):
        manager.lose_accepts = step % 2 == 1
        futures += [session.run(f"{step}.{index}".encode()) for index in range(500)]
        stored = manager.sessions[session.name].inputs
        count = len(futures)
        wait_until(lambda stored=stored, count=count: len(stored) == count, "all are stored")  # type: ignore[misc]
        manager.lose_accepts = False
        manager.drop_streams()
    outputs = [future.result(20) for future in futures]
    assert outputs == [f"{s}.{i}".encode()[::-1] for s in range(8) for i in range(500)]
    assert len(manager.sessions[session.name].inputs) == 4000


def test_a_silent_manager_is_left_and_asked_again() -> None:
    with (
        FakeManager(heartbeat=1) as manager,
        flame.connect(manager.endpoint, token=TOKEN, timeout=10) as client,
    ):
        session = client.create_session("app")
        assert session.invoke(b"ab", timeout=10) == b"ba"
        manager.silence_streams()
        assert session.invoke(b"cd", timeout=20) == b"dc"
        assert manager.hellos == 2


# --- refusals and limits -----------------------------------------------------------------------


def test_one_bad_submit_does_not_end_the_stream(client: flame.Client, manager: FakeManager) -> None:
    session = client.create_session("app")
    other = client.create_session("app")
    manager.refuse = lambda data: ResourceExhausted("the disk is full") if data == b"bad" else None
    bad = session.run(b"bad")
    with pytest.raises(ResourceExhausted, match="disk"):
        bad.result(10)
    good = [session.run(str(index).encode()) for index in range(100)]
    assert [future.result(10) for future in good] == [str(i).encode()[::-1] for i in range(100)]
    assert other.invoke(b"ab", timeout=10) == b"ba"
    assert manager.hellos == 1


def test_tasks_in_flight_behind_a_refused_batch_run_all_the_same(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    session.invoke(b"warm", timeout=10)
    manager.refuse = lambda data: ResourceExhausted("no") if data == b"bad" else None
    futures = [session.run(b"bad" if index == 10 else b"ok") for index in range(20_000)]
    results = [future.exception(10) for future in futures]
    assert isinstance(results[10], ResourceExhausted)
    refused = sum(error is not None for error in results)
    assert refused <= frames.FRAME_TASKS  # the bad one's batch
    assert all(f.result(0) == b"ko" for f, e in zip(futures, results, strict=True) if e is None)


def test_without_credit_nothing_is_sent_and_with_it_everything(
    manager: FakeManager, client: flame.Client
) -> None:
    manager.submit_credit = 10 * (64 + 4)
    session = client.create_session("app")
    futures = [session.run(b"abcd") for _ in range(1000)]
    assert [future.result(10) for future in futures] == [b"dcba"] * 1000
    assert max(count for _, _, count in manager.submits) <= 10


def test_an_input_over_the_limit_is_refused_before_it_is_sent(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    limit = manager.max_input_bytes
    assert len(session.invoke(b"x" * limit, timeout=10) or b"") == limit
    with pytest.raises(InvalidRequest, match=f"{limit + 1} bytes.*at most {limit}"):
        session.run(b"x" * (limit + 1))


@pytest.mark.parametrize("wrong", ["text", 7, [b"x"], {"a": 1}])
def test_an_input_that_is_not_bytes_is_refused_with_its_type(
    client: flame.Client, wrong: object
) -> None:
    session = client.create_session("app")
    with pytest.raises(InvalidRequest, match=type(wrong).__name__):
        session.run(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-5, 2**63, 1.0, "1"])
def test_a_wrong_position_is_refused_and_harms_nobody(client: flame.Client, wrong: object) -> None:
    session = client.create_session("app")
    with pytest.raises(InvalidRequest, match=f"from_position is {wrong!r}"):
        next(session.results(wrong))  # type: ignore[arg-type]
    assert session.run(b"ab").result(10) == b"ba"


def test_a_session_whose_frame_cannot_be_made_harms_no_other(client: flame.Client) -> None:
    session = client.create_session("app")

    async def read() -> object:
        return await client._connection.read_results("\ud800", 0, follow=False).next_results()

    with pytest.raises(InvalidRequest, match=r"cannot be: .*surrogates"):
        client._call(read())
    assert session.run(b"ab").result(10) == b"ba"


def test_a_failed_task_carries_its_traceback_and_the_session_goes_on(
    client: flame.Client, manager: FakeManager
) -> None:
    failure = frames.Failure(
        state=v1.TaskState.Failed, code=EventCode.FAILED, message="Traceback: ValueError: no"
    )
    manager.work = lambda data: failure if data == b"bad" else data
    session = client.create_session("app")
    bad = session.run(b"bad")
    with pytest.raises(TaskFailed, match="ValueError") as caught:
        bad.result(10)
    assert (caught.value.task, caught.value.session) == (bad.task_id, session.name)
    assert session.invoke(b"good", timeout=10) == b"good"


def test_a_session_that_piles_up_more_than_it_may_blocks_and_goes_on(
    client: flame.Client, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flame.sdk.pile.MAX_TASKS", 100)
    monkeypatch.setattr("flame.sdk.session.MAX_TASKS", 100)
    manager.hold_accepts = True
    manager.submit_credit = 65
    session = client.create_session("app")
    done: list[object] = []

    def submit() -> None:
        done.extend([session.run(b"x") for _ in range(500)])

    thread = threading.Thread(target=submit)
    thread.start()
    wait_until(lambda: len(session._pile) >= 100, "the pile is full")
    assert thread.is_alive()
    assert len(session._pile) <= 101
    manager.hold_accepts = False
    manager.release()
    thread.join(timeout=20)
    assert len(done) == 500


def test_large_inputs_are_bounded_by_their_bytes(
    client: flame.Client, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pile", "session"):
        monkeypatch.setattr(f"flame.sdk.{module}.MAX_LARGE_BYTES", 100_000)
    manager.submit_credit = 20_064
    session = client.create_session("app")
    futures = [session.run(bytes(20_000)) for _ in range(100)]
    assert [len(future.result(10) or b"") for future in futures] == [20_000] * 100
    assert session._pile.large_bytes == 0


# --- the end -----------------------------------------------------------------------------------


def test_closing_a_session_cancels_what_is_pending(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    manager.hold_outcomes = True
    futures = [session.run(b"x") for _ in range(10)]
    session.close()
    for future in futures:
        with pytest.raises(TaskCancelled):
            future.result(0)
    with pytest.raises(WrongState, match="closed"):
        session.run(b"late")


def test_a_session_as_context_manager_waits_for_its_tasks(
    client: flame.Client, manager: FakeManager
) -> None:
    with client.create_session("app") as session:
        futures = [session.run(b"ab") for _ in range(100)]
    assert [future.result(0) for future in futures] == [b"ba"] * 100
    assert manager.sessions[session.name].closed


def test_cancel_reaches_the_manager(client: flame.Client, manager: FakeManager) -> None:
    session = client.create_session("app")
    manager.hold_outcomes = True
    future = session.run(b"x")
    assert future.cancel()
    wait_until(lambda: manager.cancelled == [future.task_id], "the cancel arrived")


def test_a_session_opened_again_sees_only_its_own_outcomes(
    client: flame.Client, manager: FakeManager
) -> None:
    first = client.create_session("app", name="shared")
    for future in [first.run(b"x") for _ in range(100)]:
        future.result(10)
    second = client.open_session("shared")
    assert second.invoke(b"ab", timeout=10) == b"ba"
    assert manager.attaches[-1].position == 100


def test_closing_the_client_settles_every_future(manager: FakeManager) -> None:
    client = flame.connect(manager.endpoint, token=TOKEN, timeout=10)
    session = client.create_session("app")
    manager.hold_outcomes = True
    future = session.run(b"x")
    session.flush()
    client.close()
    with pytest.raises(WrongState, match="client was closed"):
        future.result(0)
    with pytest.raises(WrongState):
        session.run(b"x")
    with pytest.raises(WrongState, match=r"connect\(\) again"):
        client.list_sessions()


def test_a_created_task_can_be_looked_at(client: flame.Client) -> None:
    session = client.create_session("app")
    task = session.create_task(b"ab")
    assert (task.id, task.session, task.input) == (1, session.name, b"ab")
    with pytest.raises(NotFound, match="task 99"):
        session.get_task(99)


# --- connecting --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_wrong_token_says_what_to_do(manager: FakeManager, token: str | None) -> None:
    with pytest.raises(Unauthenticated, match="FLAME_TOKEN"):
        flame.connect(manager.endpoint, token=token, timeout=10)


def test_a_dead_endpoint_is_unavailable_after_the_timeout(manager: FakeManager) -> None:
    manager.down()
    begin = time.monotonic()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{manager.port} within 0.3 s"):
        flame.connect(manager.endpoint, token=TOKEN, timeout=0.3)
    assert time.monotonic() - begin < 5


def test_a_call_waits_for_a_manager_that_comes_back(
    client: flame.Client, manager: FakeManager
) -> None:
    session = client.create_session("app")
    manager.down()
    thread = threading.Timer(0.2, manager.up)
    thread.start()
    assert session.info().name == session.name
    thread.join()


def test_a_call_to_a_manager_that_stays_away_ends_with_its_address(manager: FakeManager) -> None:
    with flame.connect(manager.endpoint, token=TOKEN, timeout=10, retry=0.2) as client:
        session = client.create_session("app")
        manager.down()
        with pytest.raises(Unavailable, match=f"127.0.0.1:{manager.port}"):
            session.info()
        manager.up()
