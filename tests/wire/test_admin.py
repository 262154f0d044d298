"""Tenants as operators' messages, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import InvalidRequest
from flame.model.ids import Tenant
from flame.model.tenants import TenantSpec
from flame.wire import admin, v1
from tests.wire.strategies import resources

counts = st.integers(0, 2**63 - 1)
specs = st.builds(
    TenantSpec,
    st.sampled_from([Tenant("a"), Tenant("a/b.c")]),
    st.floats(),
    st.none() | resources,
    st.none() | resources,
    st.booleans(),
    st.booleans(),
    st.none() | counts,
    st.none() | counts,
    st.none() | counts,
)


@given(specs)
def test_what_is_said_of_a_tenant_travels_unchanged(spec: TenantSpec) -> None:
    message = admin.TenantSpecMessage.FromString(admin.tenant_spec_to(spec).SerializeToString())
    assert repr(admin.tenant_spec_of(message)) == repr(spec)  # NaN is not equal to itself


def test_what_a_client_leaves_out_is_what_a_tenant_has_by_itself() -> None:
    assert admin.tenant_spec_of(admin.TenantSpecMessage(name="a")) == TenantSpec(Tenant("a"))


def test_an_amount_that_cannot_be_kept_is_refused_by_name() -> None:
    for message in (
        admin.TenantSpecMessage(name="a", max_queued_bytes=2**63),
        admin.TenantSpecMessage(name="a", quota=v1.ResourceRequirement(memory=2**63)),
    ):
        with pytest.raises(InvalidRequest, match=r"tenant 'a': (max_queued_bytes|quota.memory) is"):
            admin.tenant_spec_of(message)
