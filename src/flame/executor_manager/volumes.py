"""Which directories of this node services may use as volumes, and where those are.

The node's operator allows directories; an application names directories in them. Every path is
resolved first, so that neither a symbolic link nor ``..`` leads out of what is allowed.
"""

import os
from collections.abc import Collection, Iterable, Sequence

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.shims import ServiceFailure, ServiceUnusable
from flame.model.errors import InvalidConfiguration
from flame.model.service import NotedTaskContext, TaskContext
from flame.model.specs import ApplicationSpec
from flame.model.volumes import Volume
from flame.wire import frames

#: (path, may be written to)
Allowed = tuple[str, bool]


def parse_allowed(texts: Iterable[str]) -> tuple[Allowed, ...]:
    """Read ``/srv/data``, ``/srv/data:ro`` or ``/srv/scratch:rw``; without a word it is ``ro``.

    Raises:
        InvalidConfiguration: One is no absolute path of a directory.
    """
    found: list[Allowed] = []
    for text in texts:
        path, colon, mode = text.rpartition(":")
        if not colon or "/" in mode:
            path, mode = text, "ro"
        if mode not in ("ro", "rw") or not path.startswith("/") or not os.path.isdir(path):
            raise InvalidConfiguration(
                f"volumes: {text!r} is not allowed: the absolute path of a directory that exists is "
                "needed, and behind it nothing, ':ro' or ':rw'"
            )
        found.append((os.path.realpath(path), mode == "rw"))
    return tuple(found)


def resolve(
    volumes: Collection[Volume], allowed: Sequence[Allowed], hidden: Iterable[str]
) -> list[Volume]:
    """Return an application's volumes with the paths that they really have.

    Of what is allowed the closest counts: with ``/srv:rw`` and ``/srv/golden:ro`` nobody writes to the
    latter.

    Raises:
        ServiceUnusable: One is outside what is allowed, or is no directory, or belongs to the cluster.
    """
    if not volumes:
        return []
    secret = [os.path.realpath(path) for path in hidden]
    return [_resolved(volume, allowed, secret) for volume in volumes]


def volumes_of(application: ApplicationSpec, assignment: Assignment) -> list[Volume]:
    """Return the volumes that an application has in this process, with their real paths.

    Raises:
        ServiceUnusable: One of them it cannot have.
    """
    if not assignment.sandbox:
        return resolve(application.volumes, assignment.volume_allow, assignment.hidden)
    # In here links look different: the executor manager has resolved them, outside.
    if assignment.no_volumes:
        raise ServiceUnusable(assignment.no_volumes)
    mounted = dict(assignment.volumes)
    if set(mounted) != set(application.volumes):
        raise ServiceUnusable(
            "the application's volumes were changed after this process had been started; its next "
            "executor will have them"
        )
    return list(mounted.values())


def noted(task: TaskContext, notes: frames.TaskNotes, volumes: Iterable[Volume]) -> TaskContext:
    """Return the task with what its client said of it.

    Raises:
        ServiceFailure: A location is on no volume of the application, or leads out of it.
    """
    by_name = {volume.name: volume for volume in volumes}
    pairs = iter(notes.labels)
    return NotedTaskContext(
        task,
        dict(zip(pairs, pairs, strict=False)),
        _path_of(notes.input_location, by_name, "input"),
        _path_of(notes.output_location, by_name, "output"),
    )


def _path_of(location: str, volumes: dict[str, Volume], what: str) -> str | None:
    if not location:
        return None
    name, _, rest = location.partition("/")
    volume = volumes.get(name)
    if volume is None:
        has = ", ".join(volumes) or "none"
        raise ServiceFailure(
            f"{what}_location {location!r}: the application has no volume {name!r}; it has {has}"
        )
    if what == "output" and not volume.writable:
        raise ServiceFailure(f"output_location {location!r}: volume {name!r} is read-only")
    path = os.path.realpath(os.path.join(volume.path, rest))
    if not is_within(path, volume.path):
        raise ServiceFailure(f"{what}_location {location!r} leads out of volume {name!r}")
    return path


def is_within(path: str, directory: str) -> bool:
    """Whether a resolved path is a resolved directory or below it."""
    return os.path.commonpath((path, directory)) == directory


def _resolved(volume: Volume, allowed: Sequence[Allowed], hidden: Iterable[str]) -> Volume:
    real = os.path.realpath(volume.path)
    enclosing = [one for one in allowed if is_within(real, one[0])]
    if not enclosing:
        text = ", ".join(f"{path}:{'rw' if writable else 'ro'}" for path, writable in allowed)
        raise ServiceUnusable(
            f"volume {volume.name!r} is {volume.path}, which this node does not allow; it allows "
            f"{text or 'no volumes'} (links are followed). Its operator may allow more: --volume-allow"
        )
    closest = max(len(path) for path, _ in enclosing)
    if volume.writable and not all(writes for path, writes in enclosing if len(path) == closest):
        raise ServiceUnusable(
            f"volume {volume.name!r} is {volume.path} to write to, which this node allows to be read "
            "only; make it read-only, or let its operator allow that: --volume-allow PATH:rw"
        )
    if any(is_within(real, path) for path in hidden):
        raise ServiceUnusable(
            f"volume {volume.name!r} is {volume.path}, where this node keeps what is Flame's own"
        )
    if not os.path.isdir(real):
        raise ServiceUnusable(
            f"volume {volume.name!r} is {volume.path}, which is no directory on this node"
        )
    return volume._replace(path=real)
