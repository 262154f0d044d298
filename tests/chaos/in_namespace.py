"""Run a module in a network namespace: ``python -m tests.chaos.in_namespace NAME MODULE ...``."""

import ctypes
import os
import runpy
import sys

_CLONE_NEWNET = 0x40000000

if __name__ == "__main__":
    name, module = sys.argv[1:3]
    with open(f"/run/netns/{name}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
    sys.argv = [os.path.basename(module), *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
