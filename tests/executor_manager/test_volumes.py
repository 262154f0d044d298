"""What a node allows as volumes, and that nothing leads out of it."""

import dataclasses
from pathlib import Path

import pytest

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.configuration import find_volumes
from flame.executor_manager.shims import ServiceFailure, ServiceUnusable
from flame.executor_manager.volumes import noted, parse_allowed, resolve, volumes_of
from flame.model.errors import InvalidConfiguration
from flame.model.ids import TaskId
from flame.model.service import TaskContext
from flame.model.specs import ApplicationSpec
from flame.model.volumes import Volume
from flame.wire import frames


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    for name in ("srv/in", "srv/golden/x", "srv/own/token", "etc"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "srv"


def test_what_is_in_an_allowed_directory_may_be_a_volume(srv: Path) -> None:
    allowed = parse_allowed([f"{srv}:rw", f"{srv}/golden"])
    asked = [
        Volume("all", f"{srv}/", True),
        Volume("in", f"{srv}/x/../in"),
        Volume("g", f"{srv}/golden/x"),
    ]
    assert resolve(asked, allowed, []) == [
        Volume("all", str(srv), True), Volume("in", f"{srv}/in"), Volume("g", f"{srv}/golden/x"),
    ]  # fmt: skip


def test_neither_a_link_nor_dots_lead_out_of_it(srv: Path) -> None:
    allowed = parse_allowed([str(srv)])
    (srv / "link").symlink_to("/etc")
    (srv.parent / "srv-too").mkdir()
    for path in (f"{srv}/link", f"{srv}/../etc", f"{srv}/in/../..", f"{srv}-too", "/"):
        with pytest.raises(ServiceUnusable, match=f"does not allow; it allows {srv}:ro"):
            resolve([Volume("v", path)], allowed, [])


def test_a_link_into_it_is_followed(srv: Path) -> None:
    link = srv.parent / "link"
    link.symlink_to(srv / "in")
    assert resolve([Volume("v", str(link))], parse_allowed([str(srv)]), []) == [
        Volume("v", f"{srv}/in")
    ]


def test_nothing_is_allowed_unless_somebody_says_so(srv: Path) -> None:
    with pytest.raises(ServiceUnusable, match=r"it allows no volumes.*--volume-allow"):
        resolve([Volume("v", str(srv))], (), [])


def test_the_closest_rule_says_whether_a_volume_may_be_written_to(srv: Path) -> None:
    allowed = parse_allowed([f"{srv}:rw", f"{srv}/golden:ro"])
    with pytest.raises(ServiceUnusable, match="to be read only"):
        resolve([Volume("g", f"{srv}/golden/x", writable=True)], allowed, [])


def test_a_volume_is_a_directory_and_holds_nothing_of_the_clusters(srv: Path) -> None:
    (srv / "file").touch()
    allowed = parse_allowed([str(srv)])
    for path in (f"{srv}/file", f"{srv}/nothing"):
        with pytest.raises(ServiceUnusable, match="no directory"):
            resolve([Volume("v", path)], allowed, [])
    with pytest.raises(ServiceUnusable, match="Flame's own"):
        resolve([Volume("v", f"{srv}/own/token")], allowed, [f"{srv}/own"])


@pytest.mark.parametrize(
    "text", ["", "srv", "/nowhere/at/all", "/etc:rx", "/etc:", "/etc/passwd:ro"]
)
def test_an_operators_slip_is_named(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="is not allowed"):
        parse_allowed([text])


def test_the_configuration_file_may_allow_some_too(tmp_path: Path) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text("cluster: {}\nnode: {volumes: ['/etc:ro']}")
    assert find_volumes(["/srv"], str(file)) == ("/etc:ro", "/srv")
    file.write_text("cluster: {}\nnode: {volumes: /etc}")
    with pytest.raises(InvalidConfiguration, match=r"node\.volumes is '/etc'"):
        find_volumes([], str(file))


def test_a_process_in_a_sandbox_has_the_volumes_it_was_started_with(srv: Path) -> None:
    wanted = Volume("v", f"{srv}/link", writable=True)
    application = ApplicationSpec(volumes=(wanted,))
    has = Volume("v", "/real", writable=True)
    inside = _assignment(sandbox="strict", volumes=[(wanted, has)])
    assert volumes_of(application, inside) == [has]
    changed = dataclasses.replace(application, volumes=(wanted._replace(path="/b"),))
    with pytest.raises(ServiceUnusable, match="its next executor will have them"):
        volumes_of(changed, inside)
    with pytest.raises(ServiceUnusable, match="outside"):
        volumes_of(application, _assignment(sandbox="strict", no_volumes="it is outside"))


def test_a_task_is_told_its_labels_and_where_its_places_really_are(srv: Path) -> None:
    volumes = [Volume("in", f"{srv}/in"), Volume("own", f"{srv}/own", writable=True)]
    said = frames.TaskNotes(
        labels=["run", "7", "night", ""], input_location="in/a/../b", output_location="own"
    )
    task = noted(TaskContext(TaskId(1), "s", b"x"), said, volumes)
    assert (task.input, task.labels) == (b"x", {"run": "7", "night": ""})
    assert (task.input_path, task.output_path) == (f"{srv}/in/b", f"{srv}/own")
    nothing = noted(TaskContext(TaskId(1), "s", b"x"), frames.TaskNotes(), volumes)
    assert (nothing.labels, nothing.input_path, nothing.output_path) == ({}, None, None)


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ({"input_location": "other/a"}, "has no volume 'other'; it has in, own"),
        ({"output_location": "in/a"}, "volume 'in' is read-only"),
        ({"input_location": "in/../own/token"}, "leads out of volume 'in'"),
        ({"output_location": "own/link/a"}, "leads out of volume 'own'"),
    ],
)
def test_a_place_that_is_on_no_volume_fails_its_task(
    srv: Path, notes: dict[str, str], told: str
) -> None:
    (srv / "own/link").symlink_to(srv / "in")
    volumes = [Volume("in", f"{srv}/in"), Volume("own", f"{srv}/own", writable=True)]
    with pytest.raises(ServiceFailure, match=told):
        noted(TaskContext(TaskId(1), "s", b"x"), frames.TaskNotes(**notes), volumes)


def _assignment(**values: object) -> Assignment:
    texts = dict.fromkeys(
        ("executor", "node", "endpoint", "credential", "directory", "cell", "socket"), ""
    )
    return Assignment(**texts, incarnation=1, ca_file=None, max_output_bytes=1, **values)  # type: ignore[arg-type]
