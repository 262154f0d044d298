"""Flame's things as people and programs read them: rows, properties and documents.

A row is for a table, whose titles and usual widths are beside it (the mission's widths where it shows a
table); properties are what ``flmctl view`` prints. A document has the shape of ``flmctl register``'s
files: ``metadata``, ``spec``, ``status``. So what ``flmctl view -a APP -o yaml`` prints can be edited
and given to ``flmctl update``.
"""
