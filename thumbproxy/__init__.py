"""thumbproxy: a caching reverse-proxy for images.

Everything is loaded when it is first asked for. `Thumbnails`, `Signer` and `Options`, which build
URLs, load nothing but themselves; `ThumbProxy` and the origins load what serves.
"""

from __future__ import annotations

from importlib import import_module

from thumbproxy._version import __version__ as __version__

TYPE_CHECKING = False  # as type checkers know it; `typing` would have to be loaded to begin
if TYPE_CHECKING:
    from thumbproxy.assembly.build import ThumbProxy, application
    from thumbproxy.caches.base import Scope
    from thumbproxy.config.keywords import SettingKeywords
    from thumbproxy.core.errors import BadOptions, BadSource, SettingsError, ThumbproxyError
    from thumbproxy.core.limits import Limits
    from thumbproxy.origins.folder import Folder
    from thumbproxy.origins.http import HttpOrigin
    from thumbproxy.origins.remote import RemoteOrigin
    from thumbproxy.origins.wsgi import WsgiOrigin
    from thumbproxy.purging.purger import PurgeResult
    from thumbproxy.urls.builder import Thumbnails
    from thumbproxy.urls.codec import remote_source
    from thumbproxy.urls.options import OptionKeywords, Options
    from thumbproxy.urls.signing import Signer

__all__ = [
    "BadOptions",
    "BadSource",
    "Folder",
    "HttpOrigin",
    "Limits",
    "OptionKeywords",
    "Options",
    "PurgeResult",
    "RemoteOrigin",
    "Scope",
    "SettingKeywords",
    "SettingsError",
    "Signer",
    "ThumbProxy",
    "Thumbnails",
    "ThumbproxyError",
    "WsgiOrigin",
    "application",
    "remote_source",
]
_PLACES = {
    "BadOptions": "thumbproxy.core.errors",
    "BadSource": "thumbproxy.core.errors",
    "Folder": "thumbproxy.origins.folder",
    "HttpOrigin": "thumbproxy.origins.http",
    "Limits": "thumbproxy.core.limits",
    "OptionKeywords": "thumbproxy.urls.options",
    "Options": "thumbproxy.urls.options",
    "PurgeResult": "thumbproxy.purging.purger",
    "RemoteOrigin": "thumbproxy.origins.remote",
    "Scope": "thumbproxy.caches.base",
    "SettingKeywords": "thumbproxy.config.keywords",
    "SettingsError": "thumbproxy.core.errors",
    "Signer": "thumbproxy.urls.signing",
    "ThumbProxy": "thumbproxy.assembly.build",
    "Thumbnails": "thumbproxy.urls.builder",
    "ThumbproxyError": "thumbproxy.core.errors",
    "WsgiOrigin": "thumbproxy.origins.wsgi",
    "application": "thumbproxy.assembly.build",
    "remote_source": "thumbproxy.urls.codec",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        value = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
