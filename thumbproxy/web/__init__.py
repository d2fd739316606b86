"""The WSGI interface."""
