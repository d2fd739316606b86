"""Serves tests/wsgi_site.py with a server that has no command of its own: NAME PORT."""

from __future__ import annotations

import sys
from wsgiref.simple_server import make_server

from werkzeug.serving import run_simple
from wsgi_site import app

if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "werkzeug":
        run_simple("127.0.0.1", port, app, threaded=True)
    else:
        make_server("127.0.0.1", port, app).serve_forever()
