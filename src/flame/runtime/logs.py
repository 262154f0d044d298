"""Where these processes log: standard error, at the level that FLAME_LOG names."""

import logging
import os
import sys


def log_to_stderr(default: str) -> None:
    """Set up logging. A FLAME_LOG meant for others (``info,h2=warn``) leaves the default."""
    level = os.environ.get("FLAME_LOG", default).upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else default.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
