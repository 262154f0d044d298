"""Real processes on loopback, and what can be done to them: see ``python -m tests.chaos --help``."""
