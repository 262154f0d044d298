"""Fetching packages: from the web and from this machine, as much as is allowed, as it was promised."""

import hashlib
import http.server
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.executor_manager.packages import BadPackage
from flame.executor_manager.packages.sources import Sources
from flame.wire.channels import Endpoint

CONTENT = b"an archive" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/app.tar.gz")
            self.end_headers()
        elif self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path.startswith("/app") or self.path.startswith("/half"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2 if "half" in self.path else None])
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def sources(max_bytes: int = 1024 * 1024) -> Sources:
    return Sources(lambda: Endpoint("127.0.0.1", 9, False), None, None, max_bytes)


@pytest.mark.parametrize("path", ["/app.tar.gz", f"/app.tar.gz#sha256={SHA256}", "/moved/x.tgz"])
async def test_a_package_comes_from_the_web(web: str, tmp_path: Path, path: str) -> None:
    fetched = await sources().fetch(web + path, "default", tmp_path)
    assert fetched.sha256 == SHA256
    assert fetched.archive.read_bytes() == CONTENT
    assert fetched.archive.suffix in (".gz", ".tgz")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (f"/app.tar.gz#sha256={'0' * 64}", "was expected"),
        ("/app.tar.gz#md5=0", "the fragment must be sha256="),
        ("/half.tar.gz", "bytes before its end"),
        ("/missing.tar.gz", "404"),
        ("/elsewhere.tar.gz", "cannot be fetched"),
    ],
)
async def test_what_the_web_answers_is_not_believed(
    web: str, tmp_path: Path, path: str, complaint: str
) -> None:
    with pytest.raises(BadPackage, match=complaint):
        await sources().fetch(web + path, "default", tmp_path)


async def test_a_package_may_not_be_larger_than_allowed(web: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2000))
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/big").write_bytes(bytes(20_000))
    for url in (f"{web}/app.tar.gz", f"file://{tmp_path}/big", f"file://{tmp_path}/directory"):
        (target := tmp_path / "target").mkdir(exist_ok=True)
        with pytest.raises(BadPackage, match="which are allowed"):
            await sources(max_bytes=1000).fetch(url, "default", target)


async def test_a_directory_of_this_machine_is_the_same_whenever_it_is_fetched(
    tmp_path: Path,
) -> None:
    app = tmp_path / "app"
    (app / "a").mkdir(parents=True)
    (app / "a/file").write_text("x")
    (app / "link").symlink_to("a/file")
    os.link(app / "a/file", app / "second-name")
    (target := tmp_path / "target").mkdir()
    first = await sources().fetch(f"file://{app}", "default", target)
    os.utime(app / "a/file", (1, 1))
    assert (await sources().fetch(f"file://{app}", "default", target)).sha256 == first.sha256
    with tarfile.open(first.archive) as tar:
        assert tar.getnames() == ["a", "a/file", "link", "second-name"]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("gopher://x/y", "of none of the kinds"),
        ("app.tar.gz", "of none of the kinds"),
        ("file://other-host/app", "not of the form file:///a/path"),
        ("flame://packages/x/y", "flame://packages/<sha256>/<file name>"),
    ],
)
async def test_a_url_that_cannot_be_fetched_says_what_can(
    tmp_path: Path, url: str, complaint: str
) -> None:
    with pytest.raises(BadPackage, match=complaint):
        await sources().fetch(url, "default", tmp_path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/b/app-1.0.tar.gz?x=1", "app-1.0.tar.gz"),
        ("https://host/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://host/%2e%2e", "package"),
        (f"flame://packages/{SHA256}/my%20app.whl", "my_app.whl"),
    ],
)
def test_a_url_never_names_a_file_elsewhere(url: str, name: str) -> None:
    from flame.executor_manager.packages.sources import _file_name

    assert _file_name(url) == name
