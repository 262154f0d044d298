"""Benchmarks: ``python -m benchmarks`` runs all, ``python -m benchmarks.throughput`` one.

Every task is one submit with one future and a random payload of its own, transformed by an
ordinary service, and every result is checked. Figures are medians, never the best.
"""
