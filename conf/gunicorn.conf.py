"""The configuration of gunicorn for thumbproxy, if you start gunicorn yourself.

    THUMBPROXY_KEYS=… THUMBPROXY_ORIGIN=/srv/media \\
        gunicorn -c conf/gunicorn.conf.py "thumbproxy:application()"

`thumbproxy serve` does not need this file. Arguments of gunicorn override its values.
"""

from __future__ import annotations

import os

from thumbproxy.server.gunicorn_app import (
    Log,
    Worker,
    child_exit,
    configured,
    log_as_configured,
    on_starting,
    post_worker_init,
    share_metrics,
)

# Hooks of gunicorn: they announce a stop (THUMBPROXY_DRAIN_DELAY), log why the number of workers
# was chosen, prepare a worker before its first request, and keep its metrics when it has ended.
__all__ = ["child_exit", "on_starting", "post_worker_init"]

# gunicorn's own variable for the number of workers.
if workers_told := os.environ.get("WEB_CONCURRENCY"):
    os.environ["THUMBPROXY_WORKERS"] = workers_told
# The settings in THUMBPROXY_* and in the file THUMBPROXY_CONFIG. HUP reads the file again.
settings = configured()

bind = "127.0.0.1:8080"

# gunicorn's `gthread`, extended so that a slow client does not occupy a thread.
worker_class = Worker
# One process for each processor that this container may use, as far as memory allows, so that
# Python's global lock is no bottleneck. Set it by THUMBPROXY_WORKERS, so that thumbproxy shares
# the processors out among them.
workers = settings.workers
# Most of them wait: for an origin, or for another request's render. Set it by THUMBPROXY_THREADS,
# because a quarter of them is reserved for hits.
threads = settings.threads

# A worker shows that it is alive by touching a file. On a disk that hangs, it would be killed.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes an unnamed file there

# A worker that shows no activity for this time is killed. Requests have a deadline of 25 s.
timeout = 60
# Running requests are finished at a reload or a stop, and none takes longer than this.
graceful_timeout = int(settings.request_timeout) + 5
# Longer than the 60 s of nginx's upstream keep-alive: the side that sends requests must close
# a connection first, or a request is sometimes sent into one that is being closed. If your load
# balancer keeps connections longer, set THUMBPROXY_KEEP_ALIVE.
keepalive = settings.keep_alive

# Memory does not grow with the number of requests, so workers need not be replaced. If you want it
# nevertheless, set max_requests_jitter too, so that not all are replaced at the same moment.
max_requests = 0
max_requests_jitter = 0

# Proxies whose X-Forwarded-* headers are trusted. If nginx is elsewhere, add its address.
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")

# Otherwise a client on this machine could set SCRIPT_NAME and PATH_INFO by headers of these names.
forwarder_headers = ""

# A socket for controlling gunicorn, which is not needed.
control_socket_disable = True

# Workers share their metrics. This has to be set up before they import anything.
if {"THUMBPROXY_METRICS_TOKEN", "THUMBPROXY_CONFIG"} & os.environ.keys():
    share_metrics()

# Text, or JSON with THUMBPROXY_LOG_FORMAT=json. THUMBPROXY_ACCESS_LOG=true enables an access log,
# which contains more than gunicorn's.
logger_class = Log
log_as_configured()
accesslog = None
errorlog = "-"
