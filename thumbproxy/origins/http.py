"""An origin whose sources are on an HTTP server."""

from __future__ import annotations

from collections.abc import Mapping

from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.origins.network.addresses import AllowedNetworks
from thumbproxy.origins.network.client import Client, parsed, server_of
from thumbproxy.origins.network.guard import Guard
from thumbproxy.origins.targets import check_encoded, request_target
from thumbproxy.urls.hosts import PORTS, Server, redact_url


class HttpOrigin:
    """The sources below `base_url`, for example "https://images.example.com/originals/".

    immutable       a name there is never used for another picture again
    headers         sent until a redirect leads to another server
    encoded         its sources stand as they are requested, percent-encoded: "o/images%2Fcat.jpg"
    allow_networks  non-global networks ("10.1.0.0/16") that redirects may lead to; the host of
                    `base_url` itself may have any address
    allow_ports     ports that redirects may lead to, besides that of `base_url`
    ca_file         PEM file of the authorities that are trusted; default: those of certifi

    Raises ValueError for a URL, a network or a header that cannot be used.

    Example:

        from thumbproxy import HttpOrigin, ThumbProxy

        shop = HttpOrigin("https://images.example.com/originals/", immutable=True)
        app = ThumbProxy(app, keys=["your signing key"], origins={"": app, "shop/": shop})
    """

    local = False
    personal = False

    def __init__(
        self,
        base_url: str,
        *,
        immutable: bool = False,
        headers: Mapping[str, str] | None = None,
        encoded: bool = False,
        allow_networks: tuple[str, ...] = (),
        allow_ports: tuple[int, ...] = tuple(PORTS.values()),
        ca_file: str | None = None,
    ) -> None:
        try:
            base = parsed(base_url)
            if base.query is not None or base.fragment is not None:
                raise ValueError("it has a query or a fragment")
        except ValueError as fault:
            raise ValueError(
                f"{redact_url(base_url)!r} cannot be the URL of an origin: {fault}"
            ) from None
        self.immutable = immutable
        self._encoded = encoded
        self._base = base_url.rstrip("/") + "/"
        server = server_of(base)
        # A server that moves to TLS is still the same server.
        moved = [Server("https", server.host, 443)] if server.port == 80 else []
        networks = AllowedNetworks(tuple(allow_networks))
        guard = Guard([server, *moved], networks, ports=allow_ports)
        self._client = Client(guard, headers=headers, ca_file=ca_file)

    def __repr__(self) -> str:
        return f"HttpOrigin({self._base!r})"

    def check(self, path: str) -> None:
        """Whatever is asked for may be there, if it can be asked for."""
        if self._encoded:
            check_encoded(path)

    def fetch(self, request: FetchRequest) -> Fetched:
        self.check(request.path)
        target = request.path if self._encoded else request_target(request.path)
        return self._client.fetch(self._base + target, request)

    def fingerprint(self, path: str) -> str | None:
        return None
