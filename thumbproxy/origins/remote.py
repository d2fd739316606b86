"""An origin whose sources are absolute URLs, of hosts that the configuration lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from thumbproxy.core.errors import BadSource
from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.origins.network.addresses import AllowedNetworks
from thumbproxy.origins.network.client import Client
from thumbproxy.origins.network.guard import Guard
from thumbproxy.origins.targets import check_encoded, request_target
from thumbproxy.urls.hosts import AllowedHosts, remote_server


class RemoteOrigin:
    """The sources of several servers: "https/images.example.com/a/b.jpg" is what
    https://images.example.com/a/b.jpg gives.

    hosts           "images.example.com" (https), "*.cdn.example.net" (all below it), or with scheme
                    and port, "http://legacy.example.org:8080"; redirects lead to these only
    immutable       a URL of theirs is never used for another picture again
    headers         sent to each of them, until a redirect leads to another server
    encoded         the paths stand as they are requested, percent-encoded: "o/images%2Fcat.jpg"
    allow_networks  non-global networks ("10.1.0.0/16") that they may be in
    ca_file         PEM file of the authorities that are trusted; default: those of certifi

    Raises ValueError for a host, network or header that cannot be used, and if there is no host.

    Example:

        from thumbproxy import RemoteOrigin, ThumbProxy, remote_source

        remote = RemoteOrigin(["images.example.com", "*.cdn.example.net"])
        origins = {"": app, "remote/": remote}
        app = ThumbProxy(app, keys=["your signing key"], origins=origins)
        url = thumbs.url(remote_source("https://images.example.com/a/b.jpg"), width=400)
    """

    local = False
    personal = False

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        immutable: bool = False,
        headers: Mapping[str, str] | None = None,
        encoded: bool = False,
        allow_networks: tuple[str, ...] = (),
        ca_file: str | None = None,
    ) -> None:
        names = tuple(hosts)
        if not names:
            raise ValueError("a remote origin without hosts has no sources")
        self.immutable = immutable
        self._encoded = encoded
        self._names = names
        self._hosts = AllowedHosts(names)
        guard = Guard((), AllowedNetworks(tuple(allow_networks)), hosts=self._hosts)
        self._client = Client(guard, headers=headers, ca_file=ca_file)

    def __repr__(self) -> str:
        return f"RemoteOrigin({list(self._names)!r})"

    def check(self, path: str) -> None:
        """Raise BadSource for a source of no host, or of one that is not named, or that cannot be
        asked for."""
        server, below = remote_server(path)
        if server not in self._hosts:
            raise BadSource(
                f"{server.url} is none of the servers that `hosts` of this origin, in the setting "
                "`origins`, allows."
            )
        if self._encoded:
            check_encoded(below)

    def fetch(self, request: FetchRequest) -> Fetched:
        self.check(request.path)
        server, path = remote_server(request.path)
        target = path if self._encoded else request_target(path)
        return self._client.fetch(f"{server.url}/{target}", request)

    def fingerprint(self, path: str) -> str | None:
        return None
