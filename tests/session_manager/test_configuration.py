"""flame-cluster.yaml: what it says, and what is wrong with it."""

from pathlib import Path

import pytest

from flame.model.errors import InvalidConfiguration
from flame.model.resources import GIB, UNIT, Resources
from flame.session_manager.configuration import Configuration, load
from flame.wire.channels import Endpoint

SMALLEST = "cluster:\n  name: flame\n  endpoint: http://127.0.0.1:8080\n"

#: Every key of the released version.
RELEASED = """
cluster:
  name: flame
  endpoint: "https://flame.example:9443"
  resreq: "cpu=2,mem=4g,gpu=1"
  policies: [priority, drf]
  storage: sqlite:///var/lib/flame.db
  schedule_interval: 100
  executors: {shim: host}
  limits: {max_sessions: 10, max_executors: 64, max_input: 32m}
  recovery: {session: {retry_limits: 7}}
  tls: {cert_file: /c.pem, key_file: /k.pem, ca_file: /ca.pem}
  pprof: {port: 6060}
cache:
  endpoint: http://127.0.0.1:9090
  network_interface: eth0
  storage: /var/cache
  eviction: {policy: lru, max_memory: 2G, max_objects: 5}
  tls: {cert_file: /c.pem, key_file: /k.pem}
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "flame-cluster.yaml"
    path.write_text(text)
    return path


def test_what_is_left_out_has_the_released_defaults(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, SMALLEST))
    assert configuration == Configuration()
    assert configuration.storage == "sqlite://flame.db"
    assert configuration.resources == UNIT
    assert (configuration.max_sessions, configuration.max_executors) == (None, 128)
    assert configuration.retry_limits == 5


def test_every_released_key_is_read(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, RELEASED))
    assert configuration.endpoint == Endpoint("flame.example", 9443, True)
    assert configuration.resources == Resources(2000, 4 * GIB, 1)
    assert configuration.storage == "sqlite:///var/lib/flame.db"
    assert (configuration.max_sessions, configuration.max_executors) == (10, 64)
    assert configuration.max_input_bytes == 32 * 1024 * 1024
    assert configuration.retry_limits == 7
    assert configuration.tls is not None
    assert configuration.tls.cert_file == "/c.pem"


def test_limits_on_what_waits_and_who_is_connected_are_read(tmp_path: Path) -> None:
    text = (
        "  limits: {max_queued_tasks: 7, max_queued_bytes: 8g, max_connections: 3, max_watches: 4}"
    )
    limits = load(write(tmp_path, SMALLEST + text))
    assert (limits.max_queued_tasks, limits.max_queued_bytes) == (7, 8 * GIB)
    assert (limits.max_connections, limits.max_watches) == (3, 4)
    for wrong in ("max_connections: 0", "max_watches: 0", "max_queued_tasks: 0"):
        with pytest.raises(InvalidConfiguration, match="is 0; it must be 1 or more"):
            load(write(tmp_path, SMALLEST + f"  limits: {{{wrong}}}"))
    with pytest.raises(InvalidConfiguration, match=r"cluster\.limits\.max_queued_bytes: .*many"):
        load(write(tmp_path, SMALLEST + "  limits: {max_queued_bytes: many}"))


def test_a_file_need_not_say_what_flame_up_does_not_use(tmp_path: Path) -> None:
    found = load(write(tmp_path, "cluster: {tenants: {a: {weight: 2}}}"))
    assert (found.name, str(found.endpoint)) == ("flame", "http://127.0.0.1:8080")
    assert [tenant.name for tenant in found.tenants] == ["a", "default"]
    assert load(write(tmp_path, "node: {volumes: [/srv/data]}")).name == "flame"


def test_a_declared_tenant_may_have_limits_of_its_own(tmp_path: Path) -> None:
    text = "  tenants: {a: {weight: 2, max_sessions: 3, max_queued_bytes: 1k}}"
    _, tenant = sorted(
        load(write(tmp_path, SMALLEST + text)).tenants, key=lambda t: -ord(t.name[0])
    )
    assert (tenant.name, tenant.max_sessions, tenant.max_queued_bytes) == ("a", 3, 1024)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file cannot be None"),
        ("- 1", "the file cannot be [1]"),
        ("a: [", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("cluster: {name: 3}", "cluster.name cannot be 3"),
        ("cluster: {endpoint: 'h'}", "cluster.endpoint: endpoint 'h' is not an address"),
        ("cache: {}", "cluster is missing"),
        ("cluster:", "cluster is missing"),
        (SMALLEST + "other: 1", "other is not known; allowed here are cache, cluster"),
        (SMALLEST + "  polices: []", "cluster.polices is not known; allowed here are endpoint, "),
        (
            SMALLEST + "  limits: {max_session: 3}",
            "max_session is not known; allowed here are closed_session_hours, closed_sessions, max_connections, max_e",
        ),
        (
            SMALLEST + "  policies: [priority, fair]",
            "cluster.policies[1] cannot be 'fair'; allowed are priority, fair_share, drf",
        ),
        (SMALLEST + "  policies: [drf, drf]", "cluster.policies names a policy twice"),
        (SMALLEST + "  preemption: {grace: -1}", "cluster.preemption.grace is -1"),
        (SMALLEST + "  placement: near", "cluster.placement cannot be 'near'; allowed are"),
        (SMALLEST + "  policies: [drf, fifo]", "cluster.policies: policies: drf and fifo are both"),
        (SMALLEST + "  tenants: {a: {weight: 0}}", "cluster.tenants: tenant 'a': weight is 0"),
        (
            SMALLEST + "  tenants: {b: {}, a: {wait: 1}}",
            "cluster.tenants.a.wait is not known; allowed here are borrows, lends, limit,",
        ),
        (
            SMALLEST + "  tenants: {b: {weight: 2}, a: {weight: much}}",
            "cluster.tenants.a.weight cannot be 'much': Expected `float`",
        ),
        (SMALLEST + "  tenants: {a: 3}", "cluster.tenants.a cannot be 3: Expected `object`"),
        (
            SMALLEST + "  tenants: {a/b: {}}",
            "tenant 'a/b': parent 'a' does not exist; add it first",
        ),
        (SMALLEST + "  tenants: {a: {quota: 3}}", "cluster.tenants.a.quota cannot be 3"),
        (
            SMALLEST + "  tenants: {a: {quota: cpus=3}}",
            "cluster.tenants: tenant 'a': quota: 'cpus=3'",
        ),
        (
            SMALLEST + "  executors: {shim: wasm}",
            "cluster.executors.shim cannot be 'wasm'; allowed are host",
        ),
        (SMALLEST + "  limits: {max_executors: many}", "cluster.limits.max_executors cannot be"),
        (
            SMALLEST + "  limits: {max_sessions: 0}",
            "cluster.limits.max_sessions is 0; it must be 1",
        ),
        (SMALLEST + "  limits: {max_input: 9z}", "cluster.limits.max_input: '9z' is not a size"),
        (SMALLEST + "  limits: {max_input: 3g}", "cluster.limits.max_input: 3g is not between"),
        (SMALLEST + "  recovery: {session: {retry_limits: 0}}", "retry_limits is 0; it must be 1"),
        (SMALLEST + "  resreq: cores=1", "cluster.resreq: 'cores=1'"),
        (SMALLEST + "  resreq: {cpu: 1}", "cluster.resreq cannot be {'cpu': 1}"),
        (SMALLEST + "  tls: {cert_file: a}", "cluster.tls.key_file is missing"),
        (SMALLEST.replace("http:", "ftp:"), "cluster.endpoint: endpoint 'ftp://127.0.0.1:8080'"),
        (SMALLEST.replace("http:", "https:"), "cluster.endpoint is https, so cluster.tls must"),
        (SMALLEST + "cache: {eviction: {policy: fifo}}", "'fifo'; allowed are lru"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, told: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidConfiguration) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"absent\.yaml: No such file"):
        load(tmp_path / "absent.yaml")
