"""The releases on this node's disk: complete or not there, counted while in use, old ones removed.

    <directory>/<tenant>/<key>         a release; what runs code of the package may write here
    <directory>/<tenant>/<key>.ready   written last, with the size: the release is complete
    <directory>/<tenant>/cache         what installers have downloaded
    <directory>/.work/                 archives on their way

A release that is not ready is what a manager that was killed left half done. Where tenants' executors
run as users of their own, what they may write is theirs; the rest is not.
"""

import asyncio
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flame.executor_manager.accounts import Account

log = logging.getLogger(__name__)

DEFAULT_SPACE = 10 * 1024 * 1024 * 1024

_READY = ".ready"
_PART = ".part"
_CACHE = "cache"
_GONE = ".gone"
_WORK = ".work"  # no tenant is called that


@dataclass(slots=True)
class _Release:
    size: int
    last_used: float


class Releases:
    """Makes room for them, and keeps their sizes.

    Args:
        directory: Theirs alone.
        space: Bytes that releases which nobody uses may take together with those in use.
        account_of: Returns whom a tenant's executors run as; None: as this process.
    """

    def __init__(
        self,
        directory: Path,
        space: int = DEFAULT_SPACE,
        account_of: Callable[[str], Account | None] = lambda _tenant: None,
    ) -> None:
        self._directory = directory
        self._space = space
        self._account_of = account_of
        self._ready: dict[Path, _Release] = {}
        self._uses: Counter[Path] = Counter()
        self._users: dict[Hashable, Path] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    def sweep(self) -> None:
        """Find what is here, and remove what is not whole."""
        for found in self._directory.glob("*/*"):
            if found.name == _CACHE or found.suffix == _READY:
                continue
            ready = found.with_suffix(_READY)
            try:
                if found.suffix:
                    raise ValueError("it was being made, or removed")
                self._ready[found] = _Release(int(ready.read_text()), ready.stat().st_mtime)
            except (OSError, ValueError):
                if found.is_dir():
                    shutil.rmtree(found, ignore_errors=True)
                else:
                    found.unlink()
        for ready in self._directory.glob(f"*/*{_READY}"):
            if ready.with_suffix("") not in self._ready:
                ready.unlink()

    def place(self, tenant: str, key: str) -> Path:
        """Return where a release is, or would be."""
        return self._directory / quote(tenant, safe="") / key

    def cache(self, tenant: str) -> Path:
        """Make where this tenant's installers keep what they download."""
        return self._make(tenant, self._directory / quote(tenant, safe="") / _CACHE)

    def scratch(self) -> Path:
        """Make a directory for work; whoever asked removes it, or else the next start does."""
        work = self._directory / _WORK
        for path in (self._directory, work):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=work))

    def give(self, tenant: str, directory: Path) -> None:
        """Give a directory and the files in it to whom the tenant's executors run as."""
        account = self._account_of(tenant)
        if account is not None:
            for path in (*directory.iterdir(), directory):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)

    def _make(self, tenant: str, path: Path) -> Path:
        """Make a directory of the tenant's, below ones that may be entered only."""
        for above in (self._directory, path.parent):
            above.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not path.exists():
            path.mkdir(mode=0o700)
            self.give(tenant, path)
        return path

    def lock(self, release: Path) -> asyncio.Lock:
        """Return what its maker holds."""
        return self._locks.setdefault(release, asyncio.Lock())

    def is_ready(self, release: Path) -> bool:
        """Whether it is complete."""
        return release in self._ready

    def begin(self, tenant: str, release: Path) -> None:
        """Make its directory, empty."""
        shutil.rmtree(release, ignore_errors=True)
        self._make(tenant, release)

    def finish(self, release: Path, now: float) -> None:
        """It is complete: say so in one step."""
        size = _size(release)
        draft = release.with_suffix(f"{_READY}{_PART}")
        draft.write_text(str(size))
        os.replace(draft, release.with_suffix(_READY))
        self._ready[release] = _Release(size, now)

    def use(self, user: Hashable, release: Path, now: float) -> None:
        """Keep a release until this user lets go of it."""
        self._users[user] = release
        self._uses[release] += 1
        self._ready[release].last_used = now

    def let_go(self, user: Hashable) -> None:
        """The user has ended; nothing if it used none."""
        release = self._users.pop(user, None)
        if release is None:
            return
        self._uses[release] -= 1
        if not self._uses[release]:
            del self._uses[release]

    def take_surplus(self) -> list[Path]:
        """Forget the releases that nobody uses and there is no room for, and return what to remove.

        They are renamed, so that whoever wants one again makes it anew meanwhile.
        """
        total = sum(release.size for release in self._ready.values())
        gone: list[Path] = []
        for path, release in sorted(self._ready.items(), key=lambda item: item[1].last_used):
            if total <= self._space:
                break
            lock = self._locks.get(path)
            if path in self._uses or (lock is not None and lock.locked()):
                continue
            del self._ready[path]
            self._locks.pop(path, None)
            total -= release.size
            unwanted = path.with_name(f"{path.name}.{len(self._ready)}{_GONE}")
            try:
                path.with_suffix(_READY).unlink(missing_ok=True)
                os.rename(path, unwanted)
            except OSError as error:
                log.warning("release-kept path=%s error=%s", path, error)
                continue
            gone.append(unwanted)
        return gone

    def take_cache(self, tenant: str) -> Path | None:
        """Forget a tenant's downloads if they take more than half of the space; what to remove."""
        cache = self._directory / quote(tenant, safe="") / _CACHE
        if _size(cache) <= self._space // 2:
            return None
        unwanted = cache.with_suffix(_GONE)
        try:
            os.rename(cache, unwanted)
        except OSError:  # another one is being removed
            return None
        return unwanted


def _size(directory: Path) -> int:
    """What a directory takes on disk."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue  # it has just gone
    return total
