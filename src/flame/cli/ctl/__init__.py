"""The commands of ``flmctl``, by what they are about."""
