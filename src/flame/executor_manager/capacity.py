"""What this machine offers, as far as it is ours: resources, labels, addresses, device ids."""

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.labels import Labels, check_labels
from flame.model.resources import UNIT, Resources, extras
from flame.wire import v1

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def detect_capacity() -> Resources:
    """Return the processors this process may run on, the machine's memory and its GPUs."""
    try:
        gpus = len(list(_NVIDIA_GPUS.iterdir()))
    except OSError:
        gpus = 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        gpus = min(gpus, len(_listed(visible)))
    cpus = len(os.sched_getaffinity(0))
    return Resources(cpus * 1000, psutil.virtual_memory().total, gpus)


def offered(executors: int | None, named: Mapping[str, int]) -> Resources:
    """Return what to offer: what is named (as ``cpu``, ``mem``, ``gpu`` or an extra's name, in the
    units of :class:`Resources`), and for the rest what this machine has, or room for so many
    ``executors`` of 1 CPU and 1 GiB.
    """
    found = UNIT * executors if executors is not None else detect_capacity()
    amounts = dict(named)
    return Resources(
        amounts.pop("cpu", found.cpu_millis),
        amounts.pop("mem", found.memory_bytes),
        amounts.pop("gpu", found.gpus),
        extras(amounts),
    )


def gpu_ids(count: int, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the GPUs to hand out: the first ``count`` of CUDA_VISIBLE_DEVICES, if this
    process was given some, or else the numbers from 0.

    Raises:
        InvalidConfiguration: It was given fewer.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return tuple(map(str, range(count)))
    ids = _listed(visible)
    if len(ids) < count:
        raise InvalidConfiguration(
            f"{count} GPUs are to be offered, but CUDA_VISIBLE_DEVICES is {visible!r}; "
            "leave it out, or name as many there"
        )
    return ids[:count]


def _listed(visible: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in visible.split(",")))))


def node_labels(given: Mapping[str, str], name: str) -> Labels:
    """Return the node's labels: arch, os, hostname and node by themselves, and those given.

    Raises:
        InvalidConfiguration: One that is given is malformed.
    """
    info = node_info()
    labels: dict[str, str] = {}
    for label, value in (
        ("arch", info.arch),
        ("os", info.os),
        ("hostname", socket.gethostname()),
        ("node", name),
    ):
        try:
            check_labels(((label, value),))
        except InvalidRequest:
            continue  # a name that no label can have
        labels[label] = value
    try:
        return check_labels(tuple(sorted((labels | dict(given)).items())))
    except InvalidRequest as error:
        raise InvalidConfiguration(str(error)) from None


def node_info() -> v1.NodeInfo:
    """Return what kind of machine this is."""
    return v1.NodeInfo(arch=platform.machine(), os=platform.system().lower())


def own_address(host: str, port: int) -> str:
    """Return the address from which this machine reaches ``host``: others reach it there."""
    try:
        family, kind, _, _, peer = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(peer)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
