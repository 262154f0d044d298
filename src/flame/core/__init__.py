"""The core: every rule about sessions, tasks, executors and nodes, without I/O.

The one door is :meth:`flame.core.cluster.Cluster.handle`: an event and the time go in, effects come
out. Nothing here reads a clock, opens a socket or draws a random number, so a history is a function
of its events and can be simulated from a seed.
"""
