"""A cluster whose every connection is encrypted, as a public one must be."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

import flame
from tests.e2e.services import transform

READY = 30.0  # seconds


class Encrypted(NamedTuple):
    """Where the cluster is and what a client needs to trust and be trusted."""

    endpoint: str
    token_file: Path
    ca_file: Path


def start(module: str, *arguments: str) -> tuple["subprocess.Popen[bytes]", Any]:
    """Start one of our processes; return it with its ready line."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments, "--die-with-parent", "--ready-fd", str(theirs)],
        pass_fds=(theirs,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        line = pipe.readline()
    assert line, f"{module} did not start"
    return process, json.loads(line)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Encrypted]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem", "token")]
    authority.cert_pem.write_to_path(str(paths[0]))
    certificate.cert_chain_pems[0].write_to_path(str(paths[1]))
    certificate.private_key_pem.write_to_path(str(paths[2]))
    manager, ready = start(
        "flame.session_manager",
        *("--listen", "127.0.0.1:0", "--storage", "memory", "--token-file", str(paths[3])),
        *("--tls-cert", str(paths[1]), "--tls-key", str(paths[2])),
    )
    try:
        node, _ = start(
            "flame.executor_manager",
            *("--endpoint", ready["endpoint"], "--token-file", str(paths[3])),
            *("--ca-file", str(paths[0]), "--executors", "1", "--node", "encrypted"),
            *("--directory", str(tmp_path / "node")),
        )
        try:
            yield Encrypted(ready["endpoint"], paths[3], paths[0])
        finally:
            node.terminate()
            node.wait()
    finally:
        manager.terminate()
        manager.wait()


def test_tasks_run_over_tls_from_end_to_end(encrypted: Encrypted) -> None:
    endpoint, token_file, ca_file = encrypted
    assert endpoint.startswith("https://")
    with (
        flame.connect(endpoint, token_file=token_file, ca_file=ca_file) as client,
        client.create_session(transform) as session,
    ):
        inputs = [b"task %d" % number for number in range(1_000)]
        assert list(session.map(inputs)) == [transform(value) for value in inputs]


def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted: Encrypted) -> None:
    with pytest.raises(flame.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        flame.connect(encrypted.endpoint, token_file=encrypted.token_file, timeout=2.0)
