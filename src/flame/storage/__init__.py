"""Storage engines: what is acknowledged is here first.

:class:`~flame.storage.store.Store` is the protocol; ``memory`` and ``sqlite`` implement it,
``split`` puts one beside the other, and one contract suite (``tests/contracts/test_store.py``) runs
over all. ``open`` makes one from the text of ``--storage``.
"""
