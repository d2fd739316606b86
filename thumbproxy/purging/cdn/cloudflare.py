"""Cloudflare: purges by `Cache-Tag`.

https://developers.cloudflare.com/api/resources/cache/methods/purge/
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from thumbproxy.caches.base import Scope
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.http.cache_tags import tag_of
from thumbproxy.purging.cdn.api import Api

ENDPOINT = "https://api.cloudflare.com/client/v4"


class Cloudflare:
    """A zone of Cloudflare's.

    zone   its id
    token  an API token with the permission Cache Purge of the zone
    whole  a purge of everything empties the whole zone, not just what thumbproxy sent
    """

    name = "cloudflare"

    def __init__(
        self, zone: str, token: str, *, whole: bool = False, endpoint: str = ENDPOINT
    ) -> None:
        self._path = f"/zones/{quote(zone, safe='')}/purge_cache"
        self._whole = whole
        self._api = Api(self.name, endpoint, ("Authorization", f"Bearer {token}"))

    def purge(self, scope: Scope) -> None:
        body: dict[str, Any] = {"tags": [tag_of(scope.text)]}
        if self._whole and scope.kind == "everything":
            body = {"purge_everything": True}
        answer = self._api.post(self._path, body)
        if not (isinstance(answer, dict) and answer.get("success") is True):
            raise PurgeFailed(f"{self.name}: the answer does not say that it was done")
