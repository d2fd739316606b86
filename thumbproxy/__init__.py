"""thumbproxy: a caching reverse-proxy for images.

Everything is loaded when it is first asked for. `Thumbnails`, `Signer` and `Options`, which build
URLs, load nothing but themselves; `ThumbProxy` and the origins load what serves.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; `typing` would have to be loaded to begin
if TYPE_CHECKING:
    from thumbproxy.build import ThumbProxy
    from thumbproxy.options import Options
    from thumbproxy.origins.folder import Folder
    from thumbproxy.origins.http import HttpOrigin
    from thumbproxy.origins.remote import RemoteOrigin
    from thumbproxy.origins.wsgi import WsgiOrigin
    from thumbproxy.signing import Signer
    from thumbproxy.thumbnails import Thumbnails
    from thumbproxy.urls import remote_source

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

_PLACES = {
    "Folder": "thumbproxy.origins.folder",
    "HttpOrigin": "thumbproxy.origins.http",
    "Options": "thumbproxy.options",
    "RemoteOrigin": "thumbproxy.origins.remote",
    "Signer": "thumbproxy.signing",
    "ThumbProxy": "thumbproxy.build",
    "Thumbnails": "thumbproxy.thumbnails",
    "WsgiOrigin": "thumbproxy.origins.wsgi",
    "remote_source": "thumbproxy.urls",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        value = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
