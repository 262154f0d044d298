"""Whom executors run as, when the executor manager is root."""

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.model.errors import InvalidConfiguration

_TRIAL_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def find(cls, name: str) -> "Account":
        """Look a user up.

        Raises:
            InvalidConfiguration: There is no such user, or it is root, or we are not.
        """
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise InvalidConfiguration(f"user {name!r} does not exist on this machine") from None
        if entry.pw_uid == 0:
            raise InvalidConfiguration(
                f"user {name!r} is root; name another, or none to let executors run as root"
            )
        if os.geteuid() != 0:
            raise InvalidConfiguration(
                f"executors can run as {name!r} only if the executor manager runs as root; "
                f"it runs as user {os.geteuid()}"
            )
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)

    def confinement(self) -> dict[str, Any]:
        """Return what the guardian is told."""
        return {"user": [self.uid, self.gid, list(self.groups)]}

    def environment(self) -> dict[str, str]:
        """Return the variables that say who one is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def can_reach(self, path: str) -> bool:
        """Whether this user may pass all directories above a path that exists."""
        for above in Path(path).parents:
            status = above.stat()
            mine = 0o100 * (status.st_uid == self.uid) | 0o010 * (status.st_gid in self.groups)
            if not status.st_mode & (mine | 0o001):
                return False
        return os.path.lexists(path)

    def check(self, directory: str) -> None:
        """Make sure that this user can run executors in a directory.

        Raises:
            InvalidConfiguration: It cannot; with what went wrong when it tried.
        """
        command = [sys.executable, "-P", "-c", "import flame.executor_manager.executor"]
        try:
            tried = subprocess.run(
                command,
                cwd="/",
                capture_output=True,
                text=True,
                timeout=_TRIAL_TIMEOUT,
                user=self.uid,
                group=self.gid,
                extra_groups=self.groups,
            )
            said = tried.stderr.strip().splitlines()[-1:] if tried.returncode != 0 else []
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        if said:
            raise InvalidConfiguration(
                f"user {self.name!r} cannot run {sys.executable} with Flame: {said[0]}"
            )
        reached = subprocess.run(
            ["test", "-x", directory],
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
        )
        if reached.returncode != 0:
            raise InvalidConfiguration(
                f"user {self.name!r} cannot enter {directory}; --directory has to be below "
                "directories that everybody may enter"
            )


@dataclass(frozen=True, slots=True)
class Accounts:
    """Whom each tenant's executors run as.

    Attributes:
        default: None: as the executor manager.
    """

    default: Account | None
    by_tenant: Mapping[str, Account]

    @classmethod
    def parse(cls, user: str | None, tenants: tuple[str, ...]) -> "Accounts":
        """Read ``--user NAME`` and ``--tenant-user TENANT=NAME``.

        Raises:
            InvalidConfiguration: A name cannot be used.
        """
        by_tenant = {}
        for pair in tenants:
            tenant, equals, name = pair.partition("=")
            if not equals or not tenant or not name:
                raise InvalidConfiguration(f"--tenant-user {pair!r}: TENANT=USER is needed")
            if tenant in by_tenant:
                raise InvalidConfiguration(f"--tenant-user: tenant {tenant!r} is there twice")
            by_tenant[tenant] = Account.find(name)
        return cls(Account.find(user) if user else None, by_tenant)

    def of(self, tenant: str) -> Account | None:
        """Return whom a tenant's executors run as."""
        return self.by_tenant.get(tenant, self.default)

    def check(self, directory: str) -> None:
        """Make sure that all of them can run executors; see :meth:`Account.check`."""
        for account in dict.fromkeys((self.default, *self.by_tenant.values())):
            if account is not None:
                account.check(directory)

    @property
    def any(self) -> bool:
        """Whether somebody's executors run as somebody else."""
        return self.default is not None or bool(self.by_tenant)

    def describe(self) -> str:
        """Say it for people."""
        if not self.any:
            return "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
        default = self.default.name if self.default is not None else "root"
        others = [f"{account.name} for {tenant}" for tenant, account in self.by_tenant.items()]
        return "user " + ", ".join([default, *others])
