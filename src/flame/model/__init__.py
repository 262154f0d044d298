"""Values that every part of Flame speaks about: ids, resources, specifications, errors.

Frozen, free of I/O, built on the standard library only. Everything may import this package; it
imports nothing of Flame.
"""
