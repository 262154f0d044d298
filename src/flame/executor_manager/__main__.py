"""``python -m flame.executor_manager``."""

from flame.executor_manager.main import main

main()
