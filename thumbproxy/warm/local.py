"""Warming the caches from this process, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import unquote

from thumbproxy.core.errors import RequestError, ThumbproxyError
from thumbproxy.core.media import Rendition
from thumbproxy.urls.codec import ImageRequest, UrlCodec
from thumbproxy.warm.pace import Pace
from thumbproxy.warm.tasks import Outcome, Task, Wanted


class MakesMany(Protocol):
    """What is needed of the service."""

    def make_many(
        self, requests: Sequence[ImageRequest]
    ) -> Sequence[Rendition | ThumbproxyError]: ...


class LocalWarmer:
    """Makes pictures and keeps them where the servers look."""

    def __init__(self, thumbnailer: MakesMany, urls: UrlCodec, pace: Pace) -> None:
        self._thumbnailer = thumbnailer
        self._urls = urls
        self._pace = pace

    def warm(self, task: Task) -> Outcome:
        self._pace.take(len(task.wanted))
        try:
            requests = [self._request(wanted) for wanted in task.wanted]
            results = self._thumbnailer.make_many(requests)
        except ThumbproxyError as error:
            return Outcome(task, failed=(_sentence(error),) * len(task.wanted))
        made, there, failed = 0, 0, []
        for result in results:
            fault = _fault(result)
            if fault:
                failed.append(fault)
            elif _made(result):
                made += 1
            else:
                there += 1
        return Outcome(task, made, there, tuple(failed))

    def _request(self, wanted: Wanted) -> ImageRequest:
        request = self._urls.parse(unquote(wanted.path))
        if request is None:
            raise RequestError("The address is not below the prefix.")
        return request._replace(accepted=wanted.accepted)


def _fault(result: Rendition | ThumbproxyError) -> str:
    """Why there is nothing in the caches now; "" when there is."""
    if isinstance(result, ThumbproxyError):
        return _sentence(result)
    if result.file is not None:
        result.file.close()
    if not result.storable:
        return "not-storable: the origin forbids to keep it"
    if _made(result) and "stored" not in result.cache_status:
        return "not-stored: no cache could keep it"
    return ""


def _made(result: Rendition | ThumbproxyError) -> bool:
    return isinstance(result, Rendition) and result.cache_status.startswith("fwd=uri-miss")


def _sentence(error: ThumbproxyError) -> str:
    return f"{error.token}: {error.reason}"
