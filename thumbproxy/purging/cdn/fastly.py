"""Fastly: purges by `Surrogate-Key`.

https://www.fastly.com/documentation/reference/api/purging/
"""

from __future__ import annotations

from urllib.parse import quote

from thumbproxy.caches.base import Scope
from thumbproxy.http.cache_tags import tag_of
from thumbproxy.purging.cdn.api import Api

ENDPOINT = "https://api.fastly.com"


class Fastly:
    """A service of Fastly's.

    service  its id
    token    an API token with the scope purge_select, and purge_all for `whole`
    whole    a purge of everything empties the whole service, not just what thumbproxy sent
    """

    name = "fastly"

    def __init__(
        self, service: str, token: str, *, whole: bool = False, endpoint: str = ENDPOINT
    ) -> None:
        self._path = f"/service/{quote(service, safe='')}"
        self._whole = whole
        self._api = Api(self.name, endpoint, ("Fastly-Key", token))

    def purge(self, scope: Scope) -> None:
        if self._whole and scope.kind == "everything":
            self._api.post(f"{self._path}/purge_all")
        else:
            self._api.post(f"{self._path}/purge", {"surrogate_keys": [tag_of(scope.text)]})
