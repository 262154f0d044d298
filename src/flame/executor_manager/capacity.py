"""What this machine offers, as far as it is ours."""

import os
import platform
from pathlib import Path

import psutil

from flame.model.resources import Resources
from flame.wire import v1

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def detect_capacity() -> Resources:
    """Return the processors this process may run on, the machine's memory and its GPUs."""
    try:
        gpus = len(list(_NVIDIA_GPUS.iterdir()))
    except OSError:
        gpus = 0
    cpus = len(os.sched_getaffinity(0))
    return Resources(cpus * 1000, psutil.virtual_memory().total, gpus)


def node_info() -> v1.NodeInfo:
    """Return what kind of machine this is."""
    return v1.NodeInfo(arch=platform.machine(), os=platform.system().lower())
