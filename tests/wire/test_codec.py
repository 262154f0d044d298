"""Specifications survive the wire, and those that can never work are refused by name."""

from typing import Any

import pytest
from hypothesis import given

from flame.model.errors import InvalidRequest
from flame.model.resources import GIB, UNIT, Resources
from flame.model.specs import (
    DEFAULT_MAX_ATTEMPTS,
    ApplicationSpec,
    Event,
    EventCode,
    SessionSpec,
    ShimKind,
    TaskState,
)
from flame.wire import codec, v1
from tests.wire import strategies as values


@given(values.application_specs())
def test_an_application_survives_the_wire(spec: ApplicationSpec) -> None:
    data = codec.application_spec_to(spec).SerializeToString()
    assert codec.application_spec_of(v1.ApplicationSpec.FromString(data)) == spec


@given(values.session_specs())
def test_a_session_survives_the_wire(spec: SessionSpec) -> None:
    data = codec.session_spec_to(spec).SerializeToString()
    assert codec.session_spec_of(v1.SessionSpec.FromString(data)) == spec


@given(values.resources)
def test_an_amount_survives_the_wire(amount: Resources) -> None:
    assert codec.resources_of(codec.resources_to(amount)) == amount


@given(values.events)
def test_an_event_survives_the_wire(event: Event) -> None:
    assert codec.events_of([codec.event_to(event)]) == (event,)


def test_a_part_of_a_core_is_whole_to_released_clients() -> None:
    message = codec.resources_to(Resources(2500, GIB))
    assert (message.cpu, message.cpu_millis) == (2, 500)


def resources_with(name: str, amount: int) -> v1.ResourceRequirement:
    return v1.ResourceRequirement(cpu=1, extras=[v1.NamedAmount(name=name, amount=amount)])


def test_what_is_absent_stays_absent() -> None:
    message = codec.application_spec_to(ApplicationSpec())
    for field in (
        "description",
        "image",
        "command",
        "max_instances",
        "delay_release",
        "standby",
        "schema",
    ):
        assert not message.HasField(field)
    assert not codec.session_spec_to(SessionSpec("ping")).HasField("common_data")
    assert not codec.session_spec_to(SessionSpec("ping")).HasField("max_instances")
    assert not codec.session_spec_to(SessionSpec("ping")).HasField("standby")


def test_what_is_present_and_empty_stays_present() -> None:
    message = codec.session_spec_to(SessionSpec("ping", common_data=b""))
    assert message.HasField("common_data")
    assert codec.session_spec_of(message).common_data == b""
    schema = codec.application_spec_to(ApplicationSpec(has_schema=True))
    assert schema.HasField("schema")
    assert codec.application_spec_of(schema).has_schema


def test_a_session_that_says_nothing_gets_the_cluster_s_resources() -> None:
    default = Resources(2000, 4 * GIB, 1)
    spec = codec.session_spec_of(v1.SessionSpec(application="ping"), default)
    assert spec == SessionSpec("ping", resources=default, max_attempts=DEFAULT_MAX_ATTEMPTS)


def test_a_batch_size_of_0_means_1() -> None:
    assert codec.session_spec_of(v1.SessionSpec(application="ping")).batch_size == 1


def test_released_clients_take_a_python_service_for_a_host_program() -> None:
    spec = ApplicationSpec(shim=ShimKind.PYTHON, entry_point="m:f")
    message = codec.application_spec_to(spec)
    assert message.shim == v1.Shim.Host
    assert message.shim_kind == v1.ShimKind.SHIM_KIND_PYTHON


def test_a_released_client_s_shim_counts_where_the_kind_is_not_given() -> None:
    assert codec.application_spec_of(v1.ApplicationSpec()).shim is ShimKind.HOST
    wasm = v1.ApplicationSpec(shim=v1.Shim.Wasm)
    assert codec.application_spec_of(wasm).shim is ShimKind.WASM


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"shim": 7}, "shim is 7; allowed are 0"),
        ({"shim_kind": 99}, "shim_kind is 99; allowed are 0 "),
        ({"shim_kind": 3}, "needs an entry_point"),
        ({"shim_kind": 3, "entry_point": "no colon"}, "entry_point 'no colon'"),
        ({"shim_kind": 3, "entry_point": "m:"}, "entry_point 'm:'"),
        ({"max_instances": 0}, "max_instances is 0"),
        ({"delay_release": -1}, "delay_release is -1"),
        ({"sandbox": "tight"}, "sandbox 'tight' is not known; allowed are 'strict'"),
        ({"preload": True}, "preload is set; it is for Python services with an entry_point"),
        ({"working_directory": "here"}, "'here' must be an absolute path"),
        ({"environments": [v1.Environment(name="A=B")]}, "'A=B' cannot name a variable"),
        ({"environments": [v1.Environment(name="")]}, "'' cannot name a variable"),
        ({"environments": [v1.Environment(name="A", value="\0")]}, "the value of A"),
    ],
)
def test_an_application_that_can_never_work_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=r"\w") as caught:
        codec.application_spec_of(v1.ApplicationSpec(**fields))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"application": ""}, "the application needs a name"),
        ({"min_instances": 3, "max_instances": 2}, "min_instances is 3, more than max_instances"),
        ({"max_instances": 0}, "max_instances is 0"),
        ({"min_instances": 3, "batch_size": 2}, "min_instances is 3; it must be a multiple"),
        ({"max_instances": 5, "batch_size": 2}, "max_instances is 5; it must be a multiple"),
        ({"resreq": v1.ResourceRequirement()}, "resreq asks for nothing"),
        ({"resreq": v1.ResourceRequirement(cpu=1, gpu=-1)}, "resreq.gpu is -1"),
        ({"resreq": v1.ResourceRequirement(cpu=2**60)}, "resreq.cpu is"),
        ({"resreq": v1.ResourceRequirement(memory=2**63)}, "resreq.memory is"),
        ({"resreq": v1.ResourceRequirement(cpu_millis=1000)}, "resreq.cpu_millis is 1000"),
        ({"resreq": resources_with("gpu", 1)}, "resreq.extras: 'gpu' cannot name a resource"),
        ({"resreq": resources_with("fpga", 2**63)}, "fpga are allowed"),
        ({"require": [v1.Label(name="zone")]}, "require: '' in zone=: 1 to 63 letters"),
        ({"require": [v1.Label(name="a", value=x) for x in "bc"]}, "require: a is there twice"),
        ({"prefer": [v1.PreferredLabel(name="a", value="b", weight=1001)]}, "a=b is 1001; 1 to"),
        ({"near": [""]}, "near: a node needs a name"),
        ({"durability": 5}, "durability is 5; allowed are 0 (durable)"),
    ],
)
def test_a_session_that_can_never_work_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=r"\w") as caught:
        codec.session_spec_of(v1.SessionSpec(**{"application": "ping"} | fields), UNIT)
    assert told in str(caught.value)


def test_a_failure_s_first_event_is_its_reason() -> None:
    failure = (TaskState.FAILED, int(EventCode.LOST), "three executors died")
    reason = codec.failure_events(failure, 5)[0]
    assert (reason.code, reason.message) == (EventCode.LOST, "three executors died")


def test_released_clients_are_told_why_a_task_was_lost() -> None:
    """They show the text of the event with code 3 and of no other."""
    events = codec.failure_events((TaskState.FAILED, int(EventCode.LOST), "gone"), 5)
    assert [event.message for event in events if event.code == EventCode.FAILED] == ["gone"]
