"""The sandbox that an application may ask for, made by bubblewrap (``bwrap``).

    strict     no network; the file system is read-only but for the executor's own directories; /tmp and
               /run are its own and empty; it sees no process but its own, and has no capability
    network    the same with the node's network

A service that is a program of its own is started in it; the executor stays outside and talks to it by
pipes or a Unix socket. A service that lives in the executor's process (Python, WebAssembly) takes the
whole process in with it; in ``strict`` that has no network either, so its manager connects for it and
passes the connected socket in (``relay``).
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.shims import ServiceUnusable
from flame.executor_manager.volumes import is_within, volumes_of
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.model.volumes import Volume

_PROBE_TIMEOUT = 10.0  # seconds

#: Kinds of service that live in the executor's own process.
IN_PROCESS = frozenset({ShimKind.PYTHON, ShimKind.WASM, ShimKind.LOG, ShimKind.CUSTOM})

#: Where resolvers keep what the file /etc/resolv.conf points to.
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """What a node has.

    Attributes:
        path: Of the program; empty if it cannot be used here.
        description: Its version, or why it cannot be used.
    """

    path: str
    description: str


def find_bubblewrap(user: int | None = None, group: int | None = None) -> Bubblewrap:
    """Look for bwrap and try it, as the user (and group) that executors run as."""
    path = shutil.which("bwrap")
    if path is None:
        return Bubblewrap("", "bwrap is not installed on this node (package bubblewrap)")
    trial = [path, *_arguments(Sandbox.STRICT, (), (), ()), "--", path, "--version"]
    try:
        tried = subprocess.run(
            trial, capture_output=True, timeout=_PROBE_TIMEOUT, text=True, user=user, group=group
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bubblewrap("", f"{path} cannot be run: {error}")
    if tried.returncode != 0:
        return Bubblewrap("", f"{path} makes no sandbox here: {tried.stderr.strip()}")
    return Bubblewrap(path, tried.stdout.strip())


def takes_process(application: ApplicationSpec) -> bool:
    """Whether an application's executor has to be in its sandbox as a whole."""
    return application.sandbox is not Sandbox.NONE and application.shim in IN_PROCESS


def check_sandbox(application: ApplicationSpec, assignment: Assignment) -> None:
    """Make sure that the application gets the sandbox that it asks for.

    Raises:
        ServiceUnusable: It does not.
    """
    wanted = application.sandbox
    if wanted is Sandbox.NONE:
        return
    if not assignment.bwrap:
        raise ServiceUnusable(
            f"the application asks for the sandbox {wanted.value!r}, which this node cannot make: "
            f"{assignment.no_bwrap}"
        )
    if application.shim in IN_PROCESS and assignment.sandbox != wanted.value:
        raise ServiceUnusable(
            f"the application asks for the sandbox {wanted.value!r}, and this process was started "
            f"{f'in {assignment.sandbox!r}' if assignment.sandbox else 'without one'}: the "
            "application has been changed since; its next executor will have it"
        )
    if application.shim is ShimKind.GRPC:
        raise ServiceUnusable(
            "services of the grpc shim register by their process id over the network, which a "
            "sandbox hides; use the host shim, or no sandbox"
        )
    by_port = dict(application.shim_options).get("address") == "port"
    if application.shim is ShimKind.HTTP and by_port and wanted is Sandbox.STRICT:
        raise ServiceUnusable(
            "a service in the sandbox 'strict' cannot be reached by a port; say "
            "shim_options: {address: unix}, or sandbox: network"
        )


def command_of_program(
    application: ApplicationSpec, assignment: Assignment, program: str, arguments: Sequence[str]
) -> list[str]:
    """Return what runs a program in its application's sandbox."""
    own = (assignment.directory, os.path.dirname(assignment.socket))
    package = () if assignment.place is None else (assignment.place.release,)
    readable = [_installation(program), *_named(application), *_files(arguments)]
    return [
        assignment.bwrap,
        *_arguments(
            application.sandbox,
            own,
            readable,
            assignment.hidden,
            package,
            volumes_of(application, assignment),
        ),
        "--",
        program,
        *arguments,
    ]


def command_of_executor(
    application: ApplicationSpec,
    bubblewrap: str,
    command: Sequence[str],
    writable: Iterable[str],
    readable: Iterable[str],
    hidden: Iterable[str],
    ca_file: str | None,
    package: Iterable[str] = (),
    volumes: Sequence[Volume] = (),
) -> list[str]:
    """Return what runs an executor in its application's sandbox.

    ``writable`` is all it may change, beside volumes; these have their real paths.

    ``package`` is where its package is, which it sees wherever that is.
    """
    visible = [*readable, *_named(application)]
    authority = ["--ro-bind", ca_file, ca_file] if ca_file is not None else []
    return [
        bubblewrap,
        *_arguments(application.sandbox, writable, visible, hidden, package, volumes),
        *authority,
        "--",
        *command,
    ]


def status_in(sandbox: Sandbox, status: int | None) -> int | None:
    """Return a wait status as it was inside: bwrap exits with 128 and the number of a signal."""
    if sandbox is Sandbox.NONE or status is None or not os.WIFEXITED(status):
        return status
    code = os.waitstatus_to_exitcode(status)
    return code - 128 if code > 128 else status


def _installation(program: str) -> str:
    """Return what a program is a part of: a ``bin`` has its ``lib`` beside it."""
    directory = os.path.dirname(program)
    above, name = os.path.split(directory)
    return above if name == "bin" and above != "/" else directory


def _files(arguments: Iterable[str]) -> list[str]:
    """Return the files among a program's arguments, such as the script that it is to run."""
    return [word for word in arguments if word.startswith("/") and os.path.isfile(word)]


def _named(application: ApplicationSpec) -> list[str]:
    """Return the directories that an application names itself."""
    paths = dict(application.environments).get("PYTHONPATH", "").split(os.pathsep)
    return [path for path in (application.working_directory or "", *paths) if path.startswith("/")]


def _arguments(
    sandbox: Sandbox,
    writable: Iterable[str],
    readable: Iterable[str],
    hidden: Iterable[str],
    package: Iterable[str] = (),
    volumes: Sequence[Volume] = (),
) -> list[str]:
    with_network = sandbox is Sandbox.NETWORK
    arguments = ["--unshare-all", *(["--share-net"] if with_network else [])]
    arguments += ["--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    arguments += ["--dev", "/dev", "--proc", "/proc"]
    for path in ("/tmp", "/var/tmp", "/run"):  # noqa: S108 - made new and empty
        arguments += ["--tmpfs", path]
    if with_network:
        arguments += [word for path in _RESOLVERS for word in ("--ro-bind-try", path, path)]
    # On a file system that is read-only, nothing can be made to cover what is not there.
    hidden = [path for path in hidden if os.path.lexists(path)]
    # What a volume encloses stays hidden, so that one comes before it. The outer one comes first.
    within = [os.path.realpath(path) for path in hidden]
    wide = [v for v in volumes if any(is_within(path, v.path) for path in within)]
    arguments += _volumes(wide)
    for path in hidden:
        # What is a file is hidden by an empty one.
        arguments += ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    for path in readable:
        if os.path.exists(path) and not any(_overlap(path, other) for other in hidden):
            arguments += ["--ro-bind", path, path]
    arguments += _volumes([volume for volume in volumes if volume not in wide])
    for path in package:
        arguments += ["--ro-bind", path, path]
    for path in writable:
        arguments += ["--bind", path, path]
    return [*arguments, "--remount-ro", "/run"]


def _volumes(volumes: Iterable[Volume]) -> list[str]:
    """Return what shows volumes, an outer one before what is in it."""
    arguments: list[str] = []
    for volume in sorted(volumes, key=lambda volume: volume.path):
        how = "--bind" if volume.writable else "--ro-bind"
        arguments += [how, volume.path, volume.path]
    return arguments


def _overlap(one: str, other: str) -> bool:
    """Whether showing one directory would show the other's files."""
    one, other = os.path.realpath(one), os.path.realpath(other)
    return os.path.commonpath((one, other)) in (one, other)


@functools.cache
def interpreter_paths() -> tuple[str, ...]:
    """Return where this interpreter and Flame are, which may be in a place that is hidden."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    own = [sys.prefix, sys.base_prefix, os.path.dirname(sys.executable), package]
    return tuple(dict.fromkeys(own))
