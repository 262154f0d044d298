"""Scheduling: which session gets which executor, without I/O or a clock.

The core reports facts to a :class:`~flame.scheduling.ledger.Ledger` as they change; a
:class:`~flame.scheduling.scheduler.Scheduler` makes a plan of it. The core checks each step of the
plan again before it acts, so a faulty plan costs throughput, never safety.
"""
