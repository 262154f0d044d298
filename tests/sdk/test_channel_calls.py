"""Calls that go over the task channel, and what becomes of those that cannot."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

import flame
from flame.model.errors import AlreadyExists, NotFound, Unavailable
from flame.sdk.channel_calls import ChannelCalls
from flame.wire import frames, v1
from flame.wire.status import refusal_of
from tests.sdk.fake_manager import TOKEN, FakeManager
from tests.waiting import wait_until


@pytest.fixture
def calling(manager: FakeManager) -> Iterator[flame.Client]:
    manager.takes_calls = True
    with flame.connect(manager.endpoint, token=TOKEN) as client:
        yield client


def test_sessions_are_opened_and_closed_over_the_task_channel(
    calling: flame.Client, manager: FakeManager
) -> None:
    session = calling.create_session("app", name="one")
    assert session.invoke(b"ab", timeout=10) == b"ba"
    assert calling.open_session("one").number == session.number
    assert calling.get_session("one").info().succeeded == 1
    session.close()
    assert manager.sessions["one"].closed
    expected = ["CreateSession", "OpenSession", "GetSession", "GetSession", "CloseSession"]
    assert manager.channel_calls == expected


def test_a_manager_that_does_not_say_that_it_takes_calls_gets_none(
    client: flame.Client, manager: FakeManager
) -> None:
    client.create_session("app").close()
    assert manager.channel_calls == []


def test_an_error_has_its_class(calling: flame.Client) -> None:
    calling.create_session("app", name="one")
    with pytest.raises(AlreadyExists, match="'one'"):
        calling.create_session("app", name="one")
    with pytest.raises(NotFound, match="'two'"):
        calling.get_session("two")


def test_what_is_too_large_goes_by_grpc(calling: flame.Client, manager: FakeManager) -> None:
    large = bytes(frames.CALL_BYTES)
    calling.create_session("app", name="one", common_data=large)
    assert manager.channel_calls == []
    with pytest.raises(AlreadyExists):  # it was not made twice, so this one is somebody else's
        calling.create_session("app", name="one", common_data=large)


def test_an_answer_that_is_too_large_is_asked_for_by_grpc(
    calling: flame.Client, manager: FakeManager
) -> None:
    def elsewhere(answer: frames.Answer) -> bool:
        answer.ClearField("response")
        answer.elsewhere = True
        return True

    manager.on_call = elsewhere
    session = calling.create_session("app", name="one")
    assert session.invoke(b"ab", timeout=10) == b"ba"
    assert session.close().state is not None
    assert set(manager.sessions) == {"one"}


def test_a_call_whose_answer_a_lost_stream_took_is_repeated(
    calling: flame.Client, manager: FakeManager
) -> None:
    dropped = threading.Event()

    def drop(_answer: frames.Answer) -> bool:
        if not dropped.is_set():
            dropped.set()
            threading.Thread(target=manager.drop_streams).start()
            return False
        return True

    manager.on_call = drop
    session = calling.create_session("app", name="one")
    assert session.invoke(b"ab", timeout=10) == b"ba"
    assert manager.hellos == 2


def test_the_attach_travels_with_the_call_that_creates_its_session(
    calling: flame.Client, manager: FakeManager
) -> None:
    attached_before_the_answer = threading.Event()

    def wait_for_the_attach(answer: frames.Answer) -> bool:
        def watch() -> None:
            wait_until(lambda: len(manager.attaches) == 1, "the Attach has arrived")
            attached_before_the_answer.set()
            manager.send_everywhere(answer=answer)

        threading.Thread(target=watch).start()
        return False

    manager.on_call = wait_for_the_attach
    session = calling.create_session("app")
    assert attached_before_the_answer.is_set()
    assert session.invoke(b"ab", timeout=10) == b"ba"
    assert len(manager.attaches) == 1


def test_nobody_attaches_early_to_a_session_whose_name_others_may_know(
    calling: flame.Client, manager: FakeManager
) -> None:
    theirs = calling.create_session("app", name="one")
    assert theirs.invoke(b"ab", timeout=10) == b"ba"
    with pytest.raises(AlreadyExists):
        calling.create_session("app", name="one")
    assert len(manager.attaches) == 1


def test_an_attach_that_was_too_early_is_sent_again(
    calling: flame.Client, manager: FakeManager
) -> None:
    def too_late(answer: frames.Answer) -> bool:
        manager.sessions.clear()
        answer.ClearField("response")
        answer.elsewhere = True
        return True

    manager.on_call = too_late
    assert calling.create_session("app").invoke(b"ab", timeout=10) == b"ba"
    assert len(manager.attaches) == 2


def test_a_session_that_could_not_be_created_leaves_nothing_on_the_stream(
    calling: flame.Client, manager: FakeManager
) -> None:
    def refuse(answer: frames.Answer) -> bool:
        manager.sessions.clear()
        answer.refusal.CopyFrom(refusal_of(NotFound("there is no application 'app'")))
        return True

    manager.on_call = refuse
    with pytest.raises(NotFound, match="no application"):
        calling.create_session("app")
    manager.on_call = lambda _answer: True
    assert calling.create_session("app").invoke(b"ab", timeout=10) == b"ba"
    assert manager.hellos == 1
    assert manager.detached == []


# --- without a channel ------------------------------------------------------------------------------


def ask(calls: ChannelCalls, timeout: float = 10.0) -> "asyncio.Task[bytes]":
    request = v1.GetSessionRequest(session_id="s")
    assert calls.takes(request, "GetSession")
    return asyncio.create_task(calls.call("GetSession", request, timeout))


async def test_no_more_are_sent_than_may_be_under_way() -> None:
    wake = asyncio.Event()
    calls = ChannelCalls(wake)
    calls.opened()
    asked = [ask(calls) for _ in range(frames.CALLS_AT_ONCE + 1)]
    await asyncio.wait_for(wake.wait(), 10)
    sent = list(iter(calls.next_call, None))
    assert len(sent) == frames.CALLS_AT_ONCE
    wake.clear()
    calls.answered(frames.Answer(number=sent[3].number, response=b"three"))
    assert await asked[3] == b"three"
    assert wake.is_set()
    last = calls.next_call()
    assert last is not None
    calls.answered(frames.Answer(number=last.number, response=b"last"))
    assert await asked[-1] == b"last"
    calls.lost()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == frames.CALLS_AT_ONCE - 1
    assert not calls.takes(v1.GetSessionRequest(), "GetSession")


async def test_who_gives_up_is_not_asked_for_and_takes_nobodys_turn() -> None:
    calls = ChannelCalls(asyncio.Event())
    calls.opened()
    early, late = ask(calls), ask(calls)
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.gather(early, return_exceptions=True)
    sent = calls.next_call()
    assert sent is not None
    assert sent.number == 2
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    calls.answered(frames.Answer(number=2))  # nobody waits any more
    assert calls.next_call() is None


async def test_an_answer_that_never_comes_is_given_up() -> None:
    calls = ChannelCalls(asyncio.Event())
    calls.opened()
    with pytest.raises(Unavailable, match="not within"):
        await ask(calls, timeout=0.01)


async def test_other_calls_do_not_go_this_way() -> None:
    calls = ChannelCalls(asyncio.Event())
    assert not calls.takes(v1.GetSessionRequest(), "GetSession")  # there is no connection yet
    calls.opened()
    assert not calls.takes(v1.DeleteSessionRequest(), "DeleteSession")
    assert not calls.takes(lambda: None, "GetSession")
