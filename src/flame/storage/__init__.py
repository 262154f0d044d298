"""Storage engines: what is acknowledged is here first.

:class:`~flame.storage.store.Store` is the protocol; ``memory``, ``sqlite`` and ``postgres`` implement
it, and one contract suite (``tests/contracts/test_store.py``) runs over all. ``open`` makes one from
the text of ``--storage``. What the two databases share:

rows        the bytes of a row, and their check sums
statements  from records to rows
reader      single tasks, pages, pieces of the outcome log
recovery    what the core needs at start-up
purge       what a deleted session leaves behind goes in pieces
"""
