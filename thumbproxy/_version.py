"""The version, for whoever needs no more."""

__version__ = "0.1.0"
