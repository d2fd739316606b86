"""One request, and what the service needs to know for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from thumbproxy.caches.base import Record, SourceRecord
from thumbproxy.core.limits import Deadline
from thumbproxy.origins.base import PERSONAL, Origin
from thumbproxy.scheduling.admission import Wanted, always
from thumbproxy.urls.codec import ImageRequest


class RequestContext(NamedTuple):
    """One request with what it resolves to.

    public        whether its rendition may be served to anybody, without asking
    purge_epoch   what was known of changes when the request came (SourceRecords.purge_epoch): it
                  never waits for work that began before one
    still_wanted  whether anybody still waits for what comes of it
    """

    request: ImageRequest
    origin: Origin
    path: str
    public: bool
    deadline: Deadline
    client: Mapping[str, Any]
    purge_epoch: Hashable = None
    still_wanted: Wanted = always

    @property
    def vary_key(self) -> str:
        """For whom an origin's answer is good: "" for all; else for those who say the same of the
        host that they ask, of which this is the digest."""
        if not self.origin.personal:
            return ""
        told = "\n".join(str(self.client.get(name, "")) for name in PERSONAL)
        return blake2b(told.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()

    def may_use(self, record: Record) -> bool:
        """Whether a record tells what the origin would answer to this client."""
        if not self.origin.personal:
            return True
        return isinstance(record, SourceRecord) and self.vary_key in record.askers
