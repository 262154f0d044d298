"""The command lines: ``flame``, ``flmctl``, ``flmping`` and ``flmexec``.

Each is a thin face over the SDK: read options, call the SDK, print. What they share:

- ``connection``  the options that say which cluster, and the client they give
- ``outcomes``    how an error, Ctrl-C and a closed pipe end a command
- ``tables``      fixed-width tables, JSON and YAML
- ``documents``   a session, task, application, executor or node as rows and as documents
"""
