"""Where a user's configuration is, and the token, data and logs of a cluster on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path


def configuration_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return ``FLAME_CONFIG_DIR``, or else ``~/.flame``."""
    # A user without a home keeps the ``~``; Path's own expansion would raise.
    return Path(os.path.expanduser(environment.get("FLAME_CONFIG_DIR") or "~/.flame"))
