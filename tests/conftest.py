"""Fixtures shared by every folder: real clusters on loopback, on ports of their own."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from flame.sdk.local_cluster import LocalCluster
from tests.postgres_server import PostgresServer, postgres_server

# "ci" draws the same examples every time; HYPOTHESIS_PROFILE=nightly draws others, and more.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

StartCluster = Callable[..., LocalCluster]


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads, or writes, what this machine's user has configured for Flame."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "FLAME_ENDPOINT",
            "FLAME_TOKEN",
            "FLAME_TOKEN_FILE",
            "FLAME_CA_FILE",
            "FLAME_TENANT",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("FLAME_CONFIG_DIR", str(tmp_path_factory.mktemp("flame")))
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster with two executors that lets anonymous callers in, shared by a module's tests."""
    with LocalCluster(executors=2, anonymous=True) as running:
        yield running


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Start clusters of one's own; they end with the test, whatever it did to them."""
    with ExitStack() as stack:

        def start(**options: object) -> LocalCluster:
            return stack.enter_context(LocalCluster(**options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; never skipped, see ``tests/postgres_server.py``."""
    with postgres_server() as running:
        yield running
