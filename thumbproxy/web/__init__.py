"""The edge: WSGI in, WSGI out."""
