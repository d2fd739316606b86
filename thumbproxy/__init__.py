"""thumbproxy: a caching reverse-proxy for images.

Building URLs needs `Thumbnails`, `Signer` and `Options`, which load nothing but themselves.
`ThumbProxy` and the origins, which serve, are loaded when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thumbproxy.options import Options
from thumbproxy.signing import Signer
from thumbproxy.thumbnails import Thumbnails
from thumbproxy.urls import remote_source

if TYPE_CHECKING:
    from thumbproxy.build import ThumbProxy
    from thumbproxy.origins.folder import Folder
    from thumbproxy.origins.http import HttpOrigin
    from thumbproxy.origins.remote import RemoteOrigin
    from thumbproxy.origins.wsgi import WsgiOrigin

__all__ = [
    "Folder",
    "HttpOrigin",
    "Options",
    "RemoteOrigin",
    "Signer",
    "ThumbProxy",
    "Thumbnails",
    "WsgiOrigin",
    "remote_source",
]
__version__ = "0.1.0"

_SERVING = {
    "ThumbProxy": "thumbproxy.build",
    "Folder": "thumbproxy.origins.folder",
    "HttpOrigin": "thumbproxy.origins.http",
    "RemoteOrigin": "thumbproxy.origins.remote",
    "WsgiOrigin": "thumbproxy.origins.wsgi",
}


def __getattr__(name: str) -> Any:
    if name in _SERVING:
        return getattr(import_module(_SERVING[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
