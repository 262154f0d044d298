"""Tenants: what is allowed, and that what is not is refused by name."""

import pytest

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.labels import format_labels, match, parse_labels
from flame.model.resource_text import format_resources, parse_resources
from flame.model.resources import Resources
from flame.model.tenants import TenantSpec, check_tree, parse_tenant


def tenant(name: str, weight: float = 1.0, quota: int = 0, limit: int = 0) -> TenantSpec:
    return TenantSpec(
        Tenant(name),
        weight,
        Resources(quota * 1000) if quota else None,
        Resources(limit * 1000) if limit else None,
    )


def test_the_tree_has_parents_first_and_always_a_default() -> None:
    tree = check_tree([tenant("research/risk"), tenant("research")])
    assert list(tree) == ["default", "research", "research/risk"]
    assert tree[Tenant("research/risk")].parent == "research"


@pytest.mark.parametrize(
    ("specs", "told"),
    [
        ([tenant("a", weight=0)], "tenant 'a': weight is 0"),
        ([tenant("a", weight=float("nan"))], "weight is nan"),
        ([tenant("a/b")], "parent 'a' does not exist"),
        ([tenant("a"), tenant("a")], "name: it is there twice"),
        ([tenant("a", quota=4, limit=2)], "quota cpu=4,mem=0 is over its limit cpu=2"),
        (
            [tenant("a", quota=4), tenant("a/b", quota=3), tenant("a/c", quota=2)],
            r"quota is cpu=4,mem=0, but the quotas of its children \(a/b, a/c\) are cpu=5",
        ),
        ([tenant("a", limit=2), tenant("a/b", quota=3)], "limit is cpu=2"),
        ([tenant("a//b")], "name: at most 8 parts"),
        ([TenantSpec(Tenant("a"), borrows=False)], "borrows is false, so it needs a quota"),
        ([TenantSpec(Tenant("a"), lends=False)], "lends is false, so it needs a quota"),
        ([TenantSpec(Tenant("a"), quota=Resources(-1))], "quota is .* below 0"),
    ],
)
def test_a_tree_that_makes_no_sense_is_refused_by_field(specs: list[TenantSpec], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        check_tree(specs)


def test_a_cycle_is_shown() -> None:
    parents = {Tenant("a"): Tenant("b"), Tenant("b"): Tenant("a")}
    with pytest.raises(InvalidRequest, match="parent: a cycle, a < b < a"):
        check_tree([tenant("a"), tenant("b")], dict(parents))


def test_a_parent_that_is_not_what_the_name_says_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="parent is 'b', but its name says None"):
        check_tree([tenant("a"), tenant("b")], {Tenant("a"): Tenant("b")})


def test_the_name_of_a_tenant_is_checked() -> None:
    assert parse_tenant("research/credit-risk") == "research/credit-risk"
    with pytest.raises(InvalidRequest, match="name"):
        parse_tenant("../x")


def test_extras_and_fractions_of_a_core_are_read_and_written() -> None:
    amount = parse_resources("cpu=0.5,mem=2g,fpga=1,license/x=3")
    assert amount == Resources(500, 2 * 1024**3, 0, (("fpga", 1), ("license/x", 3)))
    assert parse_resources(format_resources(amount)) == amount
    assert str(amount) == "cpu=0.5,mem=2g,fpga=1,license/x=3"


def test_extras_count_like_any_other_resource() -> None:
    one = parse_resources("cpu=1,fpga=1")
    node = parse_resources("cpu=8,fpga=2")
    assert one.fits_in(node)
    assert not one.fits_in(Resources(8000))
    assert one.count_in(node) == 2
    assert node - one - one == Resources(6000)
    assert one.dominant_share(node) == 0.5
    assert (one * 3).amount_of("fpga") == 3
    assert not Resources(1000).fits_in(Resources(2000) - one * 1)  # what is below zero is no room


def test_labels_are_read_and_matched() -> None:
    labels = parse_labels("zone=a, disk=ssd")
    assert labels == (("disk", "ssd"), ("zone", "a"))
    assert parse_labels(format_labels(labels)) == labels
    assert match((("zone", "a"),), labels)
    assert not match((("zone", "b"),), labels)
    with pytest.raises(InvalidRequest, match="requires: 'zone' is not name=value"):
        parse_labels("zone", "requires")
    with pytest.raises(InvalidRequest, match="there twice"):
        parse_labels("a=1,a=2")
