"""One request on its way through the service."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from thumbproxy.admission import Wanted, always
from thumbproxy.limits import Deadline
from thumbproxy.origins.base import Origin
from thumbproxy.urls import ImageRequest


class Job(NamedTuple):
    """One request with what it resolves to.

    since   what was known of changes when the request came (Sources.since): it never waits for work
            that began before one
    wanted  whether anybody still waits for what comes of it
    """

    request: ImageRequest
    origin: Origin
    path: str
    public: bool
    deadline: Deadline
    client: Mapping[str, Any]
    since: Hashable = None
    wanted: Wanted = always

    @property
    def asker(self) -> Hashable:
        """For whom an origin's answer is good: for all, unless it looks at the client."""
        return self.client.get("HTTP_HOST") if self.origin.personal else None
