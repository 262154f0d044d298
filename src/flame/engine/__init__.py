"""The engine: the order of effects, and group commit. No I/O.

Everything that must be stored while the previous group is being written goes into the next group, so
a group is as large as the load and nobody waits for a timer.
"""
