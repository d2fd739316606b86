"""The standalone server: gunicorn with threads, set up for images."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from thumbproxy.config.settings import Settings, UnusableSettings
from thumbproxy.config.sizing import sized
from thumbproxy.core.errors import SettingsError
from thumbproxy.core.resources import available, size
from thumbproxy.core.shortage import reason
from thumbproxy.purging.purger import follow_purges
from thumbproxy.server.draining import Drain, announced
from thumbproxy.server.listening import checked_bind
from thumbproxy.server.metrics_files import MEMORY, retire, share_metrics
from thumbproxy.server.worker import STOPPING, Worker, call_process, quieten
from thumbproxy.telemetry import logs
from thumbproxy.web.admin_endpoints import SHARED_DIRECTORY

__all__ = [
    "Log",
    "Worker",
    "child_exit",
    "configured",
    "gunicorn_options",
    "log_as_configured",
    "on_starting",
    "post_worker_init",
    "run",
    "share_metrics",
]

log = logging.getLogger(__name__)
# Of max_requests, so that not all workers are replaced at the same moment.
_JITTER = 10


def gunicorn_options(settings: Settings) -> dict[str, Any]:
    """gunicorn's settings; conf/gunicorn.conf.py has the same for those who start it themselves."""
    return {
        "bind": settings.bind,
        "workers": sized(settings, available()).workers,
        "threads": settings.threads,
        "worker_class": Worker,
        # A worker says that it lives by touching a file. On a disk that stalls, that would kill it.
        "worker_tmp_dir": MEMORY if os.path.isdir(MEMORY) else None,
        "control_socket_disable": True,
        # Else a client on this machine could set SCRIPT_NAME and PATH_INFO by headers.
        "forwarder_headers": "",
        "timeout": 60,
        # No request takes longer than its deadline, so a stop need not cut one off.
        "graceful_timeout": int(settings.request_timeout) + 5,
        # Longer than nginx keeps idle connections to us: the side that sends must hang up first.
        "keepalive": settings.keep_alive,
        "max_requests": settings.max_requests,
        "max_requests_jitter": settings.max_requests // _JITTER,
        "proc_name": "thumbproxy",
        "logger_class": Log,
        "on_starting": on_starting,
        "child_exit": child_exit,
        "post_worker_init": post_worker_init,
    }


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log, as lines of ours. Its own access log, where one is set up, stays as it is."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        if cfg.errorlog == "-":
            self._set_handler(self.error_log, None, None)
            self.error_log.propagate = True


def configured() -> Settings:
    """The settings of those who start gunicorn themselves: as THUMBPROXY_* and THUMBPROXY_CONFIG
    say, sized. What is wrong with them is left out: the application will say so."""
    try:
        settings = Settings.load(os.environ.get("THUMBPROXY_CONFIG"), os.environ)
    except UnusableSettings as error:
        settings = error.rest
    except SettingsError:  # of a file that cannot be read
        settings = Settings(keys=(secrets.token_urlsafe(32),))
    return sized(settings, available())


def log_as_configured() -> None:
    """Have gunicorn and all that it starts log as THUMBPROXY_* and THUMBPROXY_CONFIG say."""
    logs.start(configured().log_format)


Build = Callable[[], tuple[Callable[..., Any], Settings]]


class _Master(Arbiter):  # type: ignore[misc]
    def handle_int(self) -> None:
        """gunicorn's hook, at Ctrl-C."""
        quieten()
        self.stop(False)
        sys.exit(128 + signal.SIGINT)

    def spawn_worker(self) -> Any:
        # A worker has our handlers until it has its own, and to it they mean nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def reload(self) -> None:
        """gunicorn's hook, at SIGHUP. For a configuration that is refused, no worker need end."""
        if self.app.renew():
            super().reload()
        else:
            self.log.reopen_files()


class _Server(BaseApplication):  # type: ignore[misc]
    """build: reads the configuration and makes the application; raises SettingsError."""

    def __init__(
        self, app: Callable[..., Any], settings: Settings, build: Build | None, greeting: str
    ) -> None:
        self._app = app
        self._settings = settings
        self._build = build
        self._greeting = greeting
        self._bind = settings.bind
        super().__init__()

    def load_config(self) -> None:
        options = gunicorn_options(self._settings)
        options |= {"on_starting": self._start, "when_ready": self._greet}
        # Where it listens stays what it is: a port that is taken would end a server that runs.
        for name, value in {**options, "bind": self._bind}.items():
            self.cfg.set(name, value)

    def _start(self, arbiter: Any) -> None:
        begin(arbiter, lambda: self._settings.drain_delay)

    def _greet(self, _: Any) -> None:
        sys.stdout.write(f"{self._greeting}\n")
        sys.stdout.flush()

    def renew(self) -> bool:
        """Take over the configuration as it is now; whether it can be used."""
        if self._build is None:
            return True
        try:
            app, settings = self._build()
        except SettingsError as error:
            faults = "\n".join(error.faults)
            log.error("the configuration stays as it was; the new one has faults:\n%s", faults)
            return False
        except Exception:
            log.exception("the configuration stays as it was")
            return False
        self._app = self.callable = app
        self._settings = settings
        logs.start(settings.log_format)
        if settings.bind != self._bind:
            log.warning("bind: a restart is needed to listen on %s", settings.bind)
        return True

    def run(self) -> None:
        """As gunicorn does it, but with a master of ours."""
        try:
            _Master(self).run()
        except RuntimeError as error:
            sys.exit(f"Error: {error}")

    def load(self) -> Callable[..., Any]:
        return self._app


def run(
    app: Callable[..., Any], settings: Settings, greeting: str, build: Build | None = None
) -> None:
    """Serve `app` until the process is told to stop.

    greeting  what to print when the server listens
    build     makes it anew at SIGHUP, from the configuration as it is then; raises SettingsError
    Raises SettingsError when it cannot listen.
    """
    checked_bind(settings)
    logs.start(settings.log_format)
    call_process("thumb-master")
    _Server(app, settings, build, greeting).run()


def on_starting(arbiter: Any) -> None:
    """gunicorn's hook, before there are any workers."""
    begin(arbiter, lambda: configured().drain_delay)


def begin(arbiter: Any, drain_delay: Callable[[], float]) -> None:
    """Have a stop announced, and tell for what the number of workers was chosen."""
    Drain(arbiter, drain_delay)
    processors, memory = available()
    log.info(
        "processors: %g (%s), memory: %s (%s), workers: %d",
        processors.amount, processors.source, size(memory.amount), memory.source,
        arbiter.cfg.workers,
    )  # fmt: skip


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook: a worker gets ready before anybody asks it for anything."""
    # One that nobody asks anything has to purge what other hosts do.
    follow_purges()
    start = getattr(worker.app.wsgi(), "start", None)
    if start is not None:
        start(lambda: announced() or not worker.alive)
    # All that is loaded by now stays. To look through it again and again for what nobody needs any
    # more would stop all threads for a tenth of a second each time.
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """gunicorn's hook: keep what a worker counted, in a file that does not have its name."""
    directory = os.environ.get(SHARED_DIRECTORY)
    if not directory:
        return
    try:
        retire(directory)
    except OSError as error:
        log.error(
            "what worker %s counted is left where it is: %s", worker.pid, reason(error, directory)
        )
    except Exception:  # or gunicorn itself would end
        log.exception("what worker %s counted could not be put with the rest", worker.pid)
