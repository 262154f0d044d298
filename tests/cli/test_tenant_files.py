"""Tenant files: read strictly, and what is shown can be given back."""

from pathlib import Path

import pytest

from flame.cli.tables import document
from flame.cli.tenant_files import read_tenants
from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.ids import Tenant
from flame.model.resource_text import parse_resources
from flame.model.tenant_text import read_tenant, write_tenant
from flame.model.tenants import TenantSpec

RESEARCH = TenantSpec(
    Tenant("research"),
    2.5,
    parse_resources("cpu=0.5,mem=16g,gpu=1,license/x=3"),
    parse_resources("cpu=8,mem=32g,gpu=2,license/x=3"),
    lends=False,
    max_queued_bytes=4 * 1024**3,
)


def test_what_is_written_of_a_tenant_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    shown = [
        {"metadata": {"name": spec.name}, "spec": write_tenant(spec), "status": {"got": 0.5}}
        for spec in (RESEARCH, TenantSpec(Tenant("research/x")))
    ]
    path.write_text(document(shown, "yaml"))
    assert read_tenants(str(path)) == [RESEARCH, TenantSpec(Tenant("research/x"))]
    path.write_text("---\n".join(document(each, "yaml") + "\n" for each in shown))
    assert read_tenants(str(path)) == [RESEARCH, TenantSpec(Tenant("research/x"))]


def test_a_change_leaves_the_rest_as_it_was() -> None:
    changed = read_tenant("research", {"weight": 1, "quota": "none", "lends": True}, RESEARCH)
    assert (changed.weight, changed.quota, changed.lends) == (1.0, None, True)
    assert changed.max_queued_bytes == RESEARCH.max_queued_bytes


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"weigth": 1}, "tenant 'a': weigth is not known; allowed are weight, quota"),
        ({"weight": "3"}, "tenant 'a': weight: '3' is not a number"),
        ({"weight": True}, "tenant 'a': weight: True is not a number"),
        ({"weight": -1}, "tenant 'a': weight is -1; it must be above 0"),
        ({"quota": 8}, "tenant 'a': quota: 8 is not an amount like"),
        ({"limit": "cpu=many"}, "tenant 'a': limit: "),
        ({"lends": "no"}, "tenant 'a': lends: 'no' is neither true nor false"),
        ({"max_sessions": "few"}, "tenant 'a': max_sessions: 'few' is not a whole number"),
        ({"max_sessions": 1.5}, "tenant 'a': max_sessions: 1.5 is not a whole number"),
        ({"max_queued_bytes": "4 bananas"}, "tenant 'a': max_queued_bytes: "),
    ],
)
def test_what_makes_no_sense_is_named(said: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tenant("a", said)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no tenant"),
        ("{", "is not YAML"),
        ("tenants: {}", "a tenant has the keys metadata, spec, status"),
        ("metadata: {}", "metadata.name is missing"),
        ("metadata: {name: a}\nspec: 3", "tenant 'a': spec must be a mapping"),
        ("metadata: {name: a}\nspec: {weight: x}", "tenant 'a': weight"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfiguration, match=r"tenants\.yaml") as caught:
        read_tenants(str(path))
    assert told in str(caught.value)
