"""Asyncio kit of the processes: owned tasks, back-off, processes. It knows no noun of Flame."""
