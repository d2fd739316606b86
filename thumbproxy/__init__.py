"""thumbproxy: a caching reverse-proxy for images.

Everything is loaded when it is first asked for. `Thumbnails`, `Signer` and `Options`, which build
URLs, load nothing but themselves; `ThumbProxy` and the origins load what serves.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; `typing` would have to be loaded to begin
if TYPE_CHECKING:
    from thumbproxy.build import ThumbProxy, application
    from thumbproxy.caches.base import Scope
    from thumbproxy.errors import BadOptions, BadSource, SettingsError, ThumbproxyError
    from thumbproxy.options import OptionKeywords, Options
    from thumbproxy.origins.folder import Folder
    from thumbproxy.origins.http import HttpOrigin
    from thumbproxy.origins.remote import RemoteOrigin
    from thumbproxy.origins.wsgi import WsgiOrigin
    from thumbproxy.purge import PurgeResult
    from thumbproxy.signing import Signer
    from thumbproxy.thumbnails import Thumbnails
    from thumbproxy.urls import remote_source

__all__ = [
    "BadOptions",
    "BadSource",
    "Folder",
    "HttpOrigin",
    "OptionKeywords",
    "Options",
    "PurgeResult",
    "RemoteOrigin",
    "Scope",
    "SettingsError",
    "Signer",
    "ThumbProxy",
    "Thumbnails",
    "ThumbproxyError",
    "WsgiOrigin",
    "application",
    "remote_source",
]
__version__ = "0.1.0"

_PLACES = {
    "BadOptions": "thumbproxy.errors",
    "BadSource": "thumbproxy.errors",
    "Folder": "thumbproxy.origins.folder",
    "HttpOrigin": "thumbproxy.origins.http",
    "OptionKeywords": "thumbproxy.options",
    "Options": "thumbproxy.options",
    "PurgeResult": "thumbproxy.purge",
    "RemoteOrigin": "thumbproxy.origins.remote",
    "Scope": "thumbproxy.caches.base",
    "SettingsError": "thumbproxy.errors",
    "Signer": "thumbproxy.signing",
    "ThumbProxy": "thumbproxy.build",
    "Thumbnails": "thumbproxy.thumbnails",
    "ThumbproxyError": "thumbproxy.errors",
    "WsgiOrigin": "thumbproxy.origins.wsgi",
    "application": "thumbproxy.build",
    "remote_source": "thumbproxy.urls",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        value = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
