"""Bytes to model and back: generated protobuf, codecs, channel set-up, status codes.

The only package that imports generated code; others take message classes from ``frames`` (the
channels) and ``v1`` (the public API).
"""
