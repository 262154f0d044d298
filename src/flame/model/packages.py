"""Packages: archives that applications are made of, named by the SHA-256 of their bytes.

flame://packages/<sha256>/<file name>          kept by the session manager
https://host/path/app.tar.gz#sha256=<sha256>   fetched by nodes; the fragment may be left out
file:///path/on/the/node                       an archive or a directory
"""

import re
from urllib.parse import quote, unquote, urlsplit

from flame.model.errors import InvalidRequest

SCHEME = "flame"
_HOST = "packages"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

PYTHON = "python"
BINARY = "binary"
INSTALLERS = (PYTHON, BINARY)


#: How a zip begins. Python looks at the end, where a tar archive may have a wheel that is in it.
ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06")


def check_sha256(text: str) -> str:
    """Return the hash if it is one.

    Raises:
        InvalidRequest: It is anything but 64 lower-case hexadecimal digits.
    """
    if not _SHA256.fullmatch(text):
        raise InvalidRequest(f"sha256 is {text!r:.80}; it must be 64 lower-case hexadecimal digits")
    return text


def package_url(sha256: str, name: str) -> str:
    """Return the url of a package that the session manager keeps."""
    return f"{SCHEME}://{_HOST}/{check_sha256(sha256)}/{quote(name, safe='')}"


def kept_package(url: str | None) -> tuple[str, str] | None:
    """Return the hash and file name of a package that the session manager keeps; None: elsewhere.

    Raises:
        InvalidRequest: The url begins like one and is none.
    """
    if url is None or not url.startswith(f"{SCHEME}:"):
        return None
    parts = urlsplit(url)
    sha256, _, name = parts.path.removeprefix("/").partition("/")
    if parts.netloc != _HOST or not _SHA256.fullmatch(sha256):
        raise InvalidRequest(
            f"url {url!r:.200} is not of the form flame://packages/<sha256>/<file name>, "
            "as an upload answers"
        )
    return sha256, unquote(name) or "package"


def expected_sha256(url: str) -> str | None:
    """Return the hash in a url's fragment, ``#sha256=...``; None: any content will do.

    Raises:
        InvalidRequest: The fragment says something else.
    """
    fragment = urlsplit(url).fragment
    if not fragment:
        return None
    name, _, value = fragment.partition("=")
    if name != "sha256":
        raise InvalidRequest(
            f"url {url!r:.200}: the fragment must be sha256=<64 digits>, or absent"
        )
    return check_sha256(value)
