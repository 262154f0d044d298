"""The services of the default applications, ``flmping`` and ``flmexec``."""
