"""Applications' packages on a node: fetched, unpacked, installed and checked before the first task.

    wanted ──fetch──▶ archive ──unpack, install──▶ release ──check──▶ ready: an executor may start
                 └──────────────┴───────────────────────┴──▶ failed, with the cause; tried again later

A *release* is what one content becomes on this node, for one tenant. It is made once, whoever wants it;
what runs code of the package (its build, its import) runs in processes of its own, below the
guardian, without credentials and with a time limit.
"""


class BadPackage(Exception):
    """The package cannot be used; the text is for whoever deployed it."""
