"""A fake manager, and clients connected to it."""

from collections.abc import Iterator

import pytest

import flame
from tests.sdk.fake_manager import TOKEN, FakeManager


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    with FakeManager() as running:
        yield running


@pytest.fixture
def client(manager: FakeManager) -> Iterator[flame.Client]:
    with flame.connect(manager.endpoint, token=TOKEN, timeout=10) as connected:
        yield connected
