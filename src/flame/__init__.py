"""Flame: a distributed system for intelligent workloads."""
