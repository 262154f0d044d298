"""Scheduling: which session gets which executor, as a pure function.

A policy takes a :class:`~flame.scheduling.snapshot.Snapshot` and returns a plan; the core checks each
step of the plan again before it acts, so a faulty policy costs throughput, never safety.
"""
