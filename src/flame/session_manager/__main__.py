"""``python -m flame.session_manager``."""

from flame.session_manager.main import main

if __name__ == "__main__":
    main(prog_name="flame-session-manager")
