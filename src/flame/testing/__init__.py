"""Tools to test Flame, and what is built on it, without processes, sockets or real time.

:mod:`~flame.testing.simulation` runs the real engine, core, policy and store against simulated clients,
nodes and executors in virtual time, from a seed; :mod:`~flame.testing.recording` drives one engine by
hand and records what it does; :mod:`~flame.testing.capacity` plays what a trace says arrives.
"""
