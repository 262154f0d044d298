"""Storage engines: what is acknowledged is here first.

:class:`~flame.storage.store.Store` is the protocol; ``memory`` and ``sqlite`` implement it, and one
contract suite (``tests/contracts/test_store.py``) runs over both. ``open`` makes one from the text of
``--storage``.
"""
