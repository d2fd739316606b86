"""The WSGI middleware (PEP 3333)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from thumbproxy.core.errors import (
    DecoderFailed,
    EngineFailed,
    LoopDetected,
    MethodNotAllowed,
    NotAThumbnailUrl,
    Overloaded,
    RequestError,
    ThumbproxyError,
)
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.formats import Format
from thumbproxy.http.cross_origin import CrossOrigin
from thumbproxy.http.negotiation import negotiate
from thumbproxy.http.responses import CachePolicy, Environ, Response, error_response, image_response
from thumbproxy.purging.purger import Purger
from thumbproxy.service.thumbnailer import Thumbnailer
from thumbproxy.telemetry.access_log import FACTS
from thumbproxy.telemetry.metrics import Metrics, failure_of, result_of
from thumbproxy.urls.codec import AUTO, UrlCodec

WSGIApp = Callable[..., Iterable[bytes]]
# Answers PURGE, from the environ and what gives the decoded path below the prefix.
PurgeAnswer = Callable[[Environ, Callable[[], str]], Response]
log = logging.getLogger(__name__)
# Seconds from one line about refused requests to the next.
_SELDOM = 1.0


class NotWsgi(TypeError):
    """An ASGI server calls this with (scope), or with (scope, receive, send)."""

    def __init__(self) -> None:
        super().__init__(
            "This is a WSGI application, and an ASGI server called it. Wrap it in "
            "a2wsgi.WSGIMiddleware(app), or in asgiref.wsgi.WsgiToAsgi(app), which answers one "
            "request at a time; or run `thumbproxy serve`, or a WSGI server like gunicorn."
        )


class Middleware:
    """Answers thumbnail URLs and hands every other request to `app`, untouched.

    cross_origin  what replies say to pages of other origins
    purges        what answers PURGE; None for nobody
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        urls: UrlCodec,
        thumbnailer: Thumbnailer,
        policy: CachePolicy,
        auto_formats: Sequence[Format],
        metrics: Metrics,
        purger: Purger,
        cross_origin: CrossOrigin,
        purges: PurgeAnswer | None = None,
    ) -> None:
        self._app = app
        self._urls = urls
        self._thumbnailer = thumbnailer
        self._policy = policy
        self._auto_formats = tuple(auto_formats)
        self._metrics = metrics
        self._purger = purger
        self._cross_origin = cross_origin
        self._purges = purges
        options = ", OPTIONS" * cross_origin.answers_options
        self._methods = f"GET, HEAD{options}{', PURGE' * (purges is not None)}"
        self._refusals = PerProcess(Refusals)

    def __call__(
        self,
        environ: Environ,
        start_response: Callable[..., Any] | None = None,
        send: object = None,
    ) -> Iterable[bytes]:
        if start_response is None or send is not None:
            raise NotWsgi
        response = self.respond(environ)
        if response is None:
            return self._app(environ, start_response)
        return response(environ, start_response)

    def ignores_body(self, path: str) -> bool:
        """Whether a request for a path (PATH_INFO) is answered without its body."""
        return path.startswith(self._urls.prefix)

    def respond(self, environ: Environ) -> Response | None:
        """The reply to a thumbnail URL; None when the path is not below our prefix."""
        path = environ.get("PATH_INFO", "")
        if not path.startswith(self._urls.prefix):
            return None
        if environ["REQUEST_METHOD"] == "OPTIONS" and self._cross_origin.answers_options:
            return self._cross_origin.preflight(environ, self._methods)
        if not self._purger.following.value:  # the first request of this process
            self._purger.follow()
        began = time.perf_counter()
        try:
            if environ["REQUEST_METHOD"] == "PURGE" and self._purges is not None:
                return self._purges(environ, lambda: self._below(environ))
            return self._image(environ, began)
        except ThumbproxyError as error:
            # Kept here, the one that came up this way would keep itself, and the source with it.
            failure = error.fresh()
        except Exception as error:
            log.exception("unexpected error for %r", path)
            failure = EngineFailed(log=repr(error))
        self._log(failure, path)
        auto = path.endswith(f".{AUTO}")
        response = error_response(failure, auto=auto, methods=self._methods)
        self._cross_origin.tell(response.headers, environ)
        seconds = time.perf_counter() - began
        result = failure_of(failure)
        self._metrics.request(result, failure.status, len(response.body), seconds)
        if FACTS in environ:
            environ[FACTS] |= {"result": result, "reason": failure.token}
        return response

    def _log(self, failure: ThumbproxyError, path: str) -> None:
        if isinstance(failure, RequestError):  # of those, anyone can make any number
            return
        if isinstance(failure, Overloaded):
            self._refusals.value.tell(path, failure.log)
            return
        # A picture that brings a decoder down is worth a look, though it is not our fault.
        grave = failure.status >= 500 or isinstance(failure, DecoderFailed)
        level = logging.WARNING if grave else logging.INFO
        log.log(level, "%s %s: %s", failure.token, ascii(path), failure.log or failure.reason)

    def _below(self, environ: Environ) -> str:
        """The decoded path, without the prefix."""
        return path_text(environ)[len(self._urls.prefix) :]

    def _image(self, environ: Environ, began: float) -> Response | None:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed("PURGE needs the setting purge_token." * (method == "PURGE"))
        request = self._urls.parse(path_text(environ))
        if request is None:
            return None
        # RFC 8586 section 2: a request that has been through here must not go round again.
        if "thumbproxy" in environ.get("HTTP_CDN_LOOP", ""):
            raise LoopDetected
        request = negotiate(request, environ.get("HTTP_ACCEPT", ""), self._auto_formats)
        rendition = self._thumbnailer.get(request, environ)
        response = image_response(request, rendition, environ, self._policy)
        self._cross_origin.tell(response.headers, environ, private=not rendition.storable)
        result = result_of(rendition.cache_status)
        self._metrics.request(result, response.status, response.length, time.perf_counter() - began)
        if FACTS in environ:
            environ[FACTS] |= {"result": result, **dict(rendition.timings)}
        return response


class Refusals:
    """Of refused requests, which come by the thousand when there is too much to do, a line for the
    first, and then one for the rest of each `seconds`, with their number."""

    def __init__(self, seconds: float = _SELDOM) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._untold = 0
        self._quiet_until = float("-inf")
        self._timed = False

    def tell(self, path: str, why: str) -> None:
        with self._lock:
            self._untold += 1
            quiet = self._quiet_until - time.monotonic()
            if quiet > 0:
                if self._timed:
                    return
                self._timed = True
            else:
                number = self._taken()
        if quiet > 0:
            self._tell_later(quiet, why)
        elif number == 1:
            log.warning("%s %s: %s", Overloaded.token, ascii(path), why)
        else:
            self._tell_number(number, why)

    def _tell_later(self, seconds: float, why: str) -> None:
        """Not under the lock: to start a thread, gevent lets others go on, who may want it."""
        timer = threading.Timer(seconds, self._tell_rest, (why,))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no more threads: the next line has them, too
            self._timed = False

    def _tell_rest(self, why: str) -> None:
        with self._lock:
            self._timed = False
            number = self._taken()
        if number:
            self._tell_number(number, why)

    def _taken(self) -> int:
        number, self._untold = self._untold, 0
        self._quiet_until = time.monotonic() + self._seconds
        return number

    def _tell_number(self, number: int, why: str) -> None:
        requests = "request was" if number == 1 else "requests were"
        log.warning("%s: %d more %s refused: %s", Overloaded.token, number, requests, why)


def path_text(environ: Environ) -> str:
    """PATH_INFO as text: WSGI hands its bytes over as latin-1 (PEP 3333, "Unicode Issues")."""
    path: str = environ.get("PATH_INFO", "")
    if path.isascii():
        return path
    try:
        return path.encode("latin-1").decode()
    except UnicodeError:
        raise NotAThumbnailUrl from None
