"""Where the commands begin: what they need is loaded only here, so that Ctrl-C may come meanwhile."""

import importlib
import os

_INTERRUPTED = 130  # as in ``outcomes``, which is not loaded yet


def flame() -> None:
    """Entry point of ``flame``."""
    _begin("flame")


def flmctl() -> None:
    """Entry point of ``flmctl``."""
    _begin("flmctl")


def flmexec() -> None:
    """Entry point of ``flmexec``."""
    _begin("flmexec")


def flmping() -> None:
    """Entry point of ``flmping``."""
    _begin("flmping")


def _begin(command: str) -> None:
    try:
        main = importlib.import_module(f"flame.cli.{command}").main
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    main()
