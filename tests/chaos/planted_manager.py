"""A session manager with a bug: ``python -m tests.chaos.planted_manager BUG ...``."""

import sys

from flame.session_manager import shell
from flame.session_manager.main import main
from flame.testing import planted

if __name__ == "__main__":
    bugs = {bug.__name__: bug for bug in planted.ALL}
    setattr(shell, "Engine", bugs[sys.argv.pop(1)])  # noqa: B010 - that is the bug
    main(prog_name="flame-session-manager")
