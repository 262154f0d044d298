"""What a session is created with, and how a service becomes an application."""

import dataclasses
import inspect
import threading
from typing import Any

import cloudpickle
import pytest

import flame
from flame.model.errors import InvalidRequest, NotFound
from flame.model.resources import GIB, Resources
from flame.model.specs import Durability, SessionSpec, ShimKind
from flame.sdk.applications import application_of
from flame.sdk.client import Client
from flame.sdk.session_options import SessionArguments, SessionOptions, new_session
from flame.sdk.views import SessionInfo
from tests.sdk.fake_manager import FakeManager


def shout(data: bytes | None) -> bytes | None:
    """Make it louder."""
    return data and data.upper()


class Service(flame.FlameService):
    """A service of this module."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        return context.input


def test_every_public_name_is_there() -> None:
    assert [name for name in flame.__all__ if not hasattr(flame, name)] == []
    assert set(flame.__all__) <= set(dir(flame))


def options(**given: Any) -> SessionOptions:
    return SessionOptions(**given)


def test_a_name_is_made_up_from_the_applications() -> None:
    first, second = (new_session("app", None, options()).name for _ in range(2))
    assert first.startswith("app-")
    assert first != second
    assert len(new_session("a" * 256, None, options()).name) == 256


def test_resources_may_be_text_or_left_to_the_cluster() -> None:
    new = new_session("app", None, options(resources="cpu=2,mem=4g"))
    assert new.spec.resources == Resources(2000, 4 * GIB)
    assert not new.default_resources
    assert new_session("app", None, options()).default_resources


@pytest.mark.parametrize("value", ["memory", "MEMORY", Durability.MEMORY])
def test_durability_may_be_text_or_the_enumeration(value: object) -> None:
    assert new_session("app", None, options(durability=value)).spec.durability is Durability.MEMORY


def test_labels_are_given_as_text_or_as_a_mapping() -> None:
    for require, prefer in (("b=2,a=1", "c=3:4"), ({"b": "2", "a": "1"}, {"c=3": 4})):
        spec = new_session("app", None, options(require=require, prefer=prefer)).spec
        assert spec.require == (("a", "1"), ("b", "2"))
        assert spec.prefer == (("c", "3", 4),)
    assert new_session("app", None, options(near=["n", "m", "n"])).spec.near == ("n", "m")


def test_failures_to_try_again_are_classes_names_or_codes() -> None:
    spec = new_session("app", None, options(retry_on=[OSError, "lib.Busy", 75, 75])).spec
    assert spec.retry_on == ("builtins.OSError", "lib.Busy", "75")
    assert spec.retry_on_failure == 2
    assert new_session("app", None, options()).spec.retry_on_failure == 0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"durability": "forever"}, "allowed are 'durable', 'sync', 'memory'"),
        ({"priority": -1}, "priority is -1"),
        ({"min_instances": -1}, "min_instances is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"standby": -1}, "standby is -1"),
        ({"standby": 0.5}, "standby is 0.5"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_instances": 0}, "max_instances is 0"),
        (
            {"min_instances": 3, "max_instances": 2},
            "max_instances is 2, below min_instances, which is 3",
        ),
        ({"common_data": "text"}, "common_data must be bytes or None, not str"),
        ({"resources": "cpu=x"}, "cpu=x"),
        ({"batch_size": 2, "min_instances": 1}, "min_instances is 1; it must be a multiple of ba"),
        ({"batch_size": 2, "max_instances": 3}, "max_instances is 3; it must be a multiple of ba"),
        ({"require": ["zone=a"]}, "require is .'zone=a'.; give 'zone=a'"),
        ({"require": {"zone": ""}}, "require: '' in zone="),
        ({"prefer": 3}, "prefer is 3"),
        ({"prefer": {"zone=a": 0}}, "the weight of zone=a is 0"),
        ({"near": "node-1"}, "near is 'node-1'; give a list"),
        ({"retry_on": "OSError"}, "retry_on is 'OSError'; give a list"),
        ({"retry_on": [3.5]}, "retry_on has 3.5; give exceptions"),
        ({"retry_on": ["an error"]}, "retry_on has 'an error'; give the name of"),
        ({"retry_on": list(range(33))}, "retry_on names 33 kinds"),
        ({"retry_on": [OSError], "retry_on_failure": 0}, "retry_on_failure is 0"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        new_session("app", None, options(**given))


@pytest.mark.parametrize("name", ["", "a" * 257, "a\nb"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        new_session("app", name, options())


# --- services ----------------------------------------------------------------------------------


def test_a_function_is_an_application_of_its_own() -> None:
    name, spec = application_of(shout)
    assert name.startswith("shout-")
    assert spec.shim is ShimKind.PYTHON
    assert spec.description == "Make it louder."
    assert cloudpickle.loads(spec.pickled_service)(b"ab") == b"AB"


def test_the_same_service_is_the_same_application_and_another_one_is_not() -> None:
    assert application_of(shout)[0] == application_of(shout)[0]
    names = {application_of(lambda data, n=n: data * n)[0] for n in range(3)}
    assert len(names) == 3


def test_a_service_class_and_an_object_are_applications() -> None:
    assert application_of(Service)[0].startswith("Service-")
    assert application_of(Service())[0].startswith("Service-")


def test_a_service_travels_with_its_module_if_that_is_not_installed() -> None:
    """An executor on another machine cannot import the module next to the caller's script."""
    _, spec = application_of(shout)
    assert __name__.encode() + b"\x8c" not in spec.pickled_service
    assert b"upper" in spec.pickled_service


@pytest.mark.parametrize("wrong", [7, None, b"x", int])
def test_what_is_no_service_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        application_of(wrong)


def test_a_service_that_cannot_be_sent_says_why() -> None:
    lock = threading.Lock()

    def locked(data: bytes) -> bytes:
        with lock:
            return data

    with pytest.raises(InvalidRequest, match="on_session_enter"):
        application_of(locked)


def test_every_face_takes_the_arguments_of_create_session() -> None:
    """They are written down three times: for readers, for type checkers, and with their defaults."""
    shown = inspect.signature(Client.create_session).parameters
    known = {field.name: field for field in dataclasses.fields(SessionOptions)}
    assert set(SessionArguments.__annotations__) == set(known)
    assert {name: shown[name].default for name in known} == {
        name: field.default for name, field in known.items()
    }


def test_an_application_that_left_before_its_session_came_is_registered_again(
    client: flame.Client, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend = client._connection.frontend
    create = frontend.create_session
    calls: list[str] = []

    async def create_late(name: str, spec: SessionSpec, *, default_resources: bool) -> SessionInfo:
        calls.append(name)
        if len(calls) == 1:
            manager.applications.clear()
            raise NotFound(f"there is no application {spec.application!r}")
        return await create(name, spec, default_resources=default_resources)

    monkeypatch.setattr(frontend, "create_session", create_late)
    session = client.create_session(lambda data: data)
    assert len(calls) == 2
    assert list(manager.applications) == [manager.sessions[session.name].spec.application]
    calls.clear()
    with pytest.raises(NotFound):  # one that it does not bring is not there
        client.create_session("app")
