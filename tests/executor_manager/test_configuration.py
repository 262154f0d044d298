import platform
from pathlib import Path

import pytest

from flame.executor_manager.capacity import gpu_ids, node_labels
from flame.executor_manager.configuration import find_access, find_offer
from flame.model.errors import InvalidConfiguration
from flame.wire.managers import show


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FLAME_ENDPOINT", "FLAME_TOKEN", "FLAME_TOKEN_FILE", "FLAME_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLAME_CONFIG_DIR", str(tmp_path / "home"))


def test_options_come_before_the_environment_and_the_file_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text("cluster: {endpoint: 'https://file:1', tls: {ca_file: /ca}}")
    found = find_access(None, None, None, str(file))
    assert (show(found.endpoints), found.token, found.ca_file) == ("https://file:1", None, "/ca")
    monkeypatch.setenv("FLAME_ENDPOINT", "http://environment:2")
    assert show(find_access(None, None, None, str(file)).endpoints) == "http://environment:2"
    assert (
        show(find_access("http://option:3", None, None, str(file)).endpoints) == "http://option:3"
    )


def test_a_file_may_have_a_node_and_no_cluster(tmp_path: Path) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text("node: {labels: {zone: a}}")
    assert show(find_access(None, None, None, str(file)).endpoints) == "http://127.0.0.1:8080"


def test_the_local_clusters_token_is_found_for_loopback_only(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("secret\n")
    assert find_access("http://127.0.0.1:1", None, None, None).token == "secret"
    assert find_access("http://elsewhere:1", None, None, None).token is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "is not YAML"),
        ("cache: {}", "key 'cluster' is needed"),
        ("cluster: {endpoint: 8080}", "endpoint is 8080; a text is needed"),
        ("cluster: {endpoint: 'ftp://x:1'}", "ftp://x:1"),
        ("cluster: {tls: yes}", "cluster.tls is True; a mapping is needed"),
    ],
)
def test_a_wrong_file_names_itself_and_the_key(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text(content)
    with pytest.raises(InvalidConfiguration, match=said):
        find_access(None, None, None, str(file))


def test_a_token_file_must_be_there_and_hold_a_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        find_access(None, str(tmp_path / "absent"), None, None)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InvalidConfiguration, match="is empty"):
        find_access(None, str(tmp_path / "empty"), None, None)


def test_what_the_node_offers_is_in_the_file_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text('node: {labels: {zone: a, disk: ssd}, resources: "cpu=4,fpga=1"}')
    labels, amounts = find_offer(["zone=b"], ["fpga=2", "mem=1k,license/x=3"], str(file))
    assert labels == {"zone": "b", "disk": "ssd"}
    assert amounts == {"cpu": 4000, "fpga": 2, "mem": 1024, "license/x": 3}
    assert find_offer([], [], None) == ({}, {})


@pytest.mark.parametrize(
    ("content", "label", "amount", "said"),
    [
        ("{}", "zone", "", "--label: 'zone' is not name=value"),
        ("{}", "zone=", "", "'' in zone="),
        ("{}", "", "fpga=x", "fpga in 'fpga=x' is 'x'"),
        ("{}", "", "gpus=1", "keys are cpu, mem, gpu"),
        (
            "node: {label: {}}",
            "",
            "",
            "node.label is unknown; allowed are labels, resources and volumes",
        ),
        ("node: {labels: [a]}", "", "", r"node.labels is \['a'\]; a mapping is needed"),
        ("node: {labels: {a: 'b c'}}", "", "", "node.labels: 'b c' in a=b c"),
        ("node: {resources: 4}", "", "", "resources is 4; a text is needed"),
    ],
)
def test_a_wrong_offer_is_named(
    tmp_path: Path, content: str, label: str, amount: str, said: str
) -> None:
    file = tmp_path / "flame-cluster.yaml"
    file.write_text(content)
    with pytest.raises(InvalidConfiguration, match=said):
        find_offer([label], [amount], str(file))


def test_gpus_are_named_as_the_process_was_given_them() -> None:
    assert gpu_ids(2, {}) == ("0", "1")
    assert gpu_ids(2, {"CUDA_VISIBLE_DEVICES": "3, GPU-ab, 5"}) == ("3", "GPU-ab")
    with pytest.raises(InvalidConfiguration, match="CUDA_VISIBLE_DEVICES is '7'"):
        gpu_ids(2, {"CUDA_VISIBLE_DEVICES": "7"})


def test_a_node_has_labels_by_itself_and_those_it_is_given() -> None:
    labels = dict(node_labels({"zone": "a", "os": "mine"}, "n 1"))
    assert labels["zone"] == "a"
    assert labels["os"] == "mine"
    assert labels["arch"] == platform.machine()
    assert "node" not in labels, "no label can have a blank"
    assert dict(node_labels({}, "n1"))["node"] == "n1"
