"""gunicorn for thumbproxy, for those who start gunicorn themselves.

    THUMBPROXY_KEYS=… THUMBPROXY_ORIGIN=/srv/media \\
        gunicorn -c conf/gunicorn.conf.py "thumbproxy:application()"

`thumbproxy serve` needs none of this. Arguments to gunicorn override what is said here.
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

# gunicorn calls them: a stop is announced (THUMBPROXY_DRAIN_DELAY), and the log says for what the
# number of workers was chosen; a worker gets ready before anybody asks it for anything; and what it
# counted is kept when it has ended.
__all__ = ["child_exit", "on_starting", "post_worker_init"]

# WEB_CONCURRENCY is the name by which gunicorn itself is told.
if workers_told := os.environ.get("WEB_CONCURRENCY"):
    os.environ["THUMBPROXY_WORKERS"] = workers_told
# What THUMBPROXY_* and the file that THUMBPROXY_CONFIG names say. HUP reads the file again.
settings = configured()

bind = "127.0.0.1:8080"

# gunicorn's `gthread`, but that a slow client holds no thread of it.
worker_class = Worker
# A process for each processor, so that Python's lock is no bottleneck: of those that this container
# may use, and for which there is memory. Set it by THUMBPROXY_WORKERS, so that thumbproxy shares
# the processors out among them.
workers = settings.workers
# Most of them wait: for an origin, or for another request's render. Set it by THUMBPROXY_THREADS,
# because a quarter of them is kept for what need not wait.
threads = settings.threads

# A worker says that it lives by touching a file. On a disk that stalls, that would kill it.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes an unnamed file there

# A worker that is silent for so long is killed. Threads have their own deadline of 25 s.
timeout = 60
# Requests in flight are finished at a reload or a stop, and none takes longer than that.
graceful_timeout = int(settings.request_timeout) + 5
# Longer than the 60 s of nginx's upstream keep-alive: the side that sends requests must hang
# up first, or now and then one is sent into a connection that is being closed. For what keeps
# connections longer: THUMBPROXY_KEEP_ALIVE.
keepalive = settings.keep_alive

# Memory does not grow with the requests served, so no worker needs to be replaced for that. If you
# want it nevertheless: max_requests_jitter, so that not all are at the same moment.
max_requests = 0
max_requests_jitter = 0

# Whose X-Forwarded-* are believed: nginx on this machine. Elsewhere, name its address.
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")

# Else a client on this machine could set SCRIPT_NAME and PATH_INFO by headers of these names.
forwarder_headers = ""

# A socket through which gunicorn could be told to do things, and nobody does.
control_socket_disable = True

# Workers count together for /metrics. They have to be told so before they load anything.
if {"THUMBPROXY_METRICS_TOKEN", "THUMBPROXY_CONFIG"} & os.environ.keys():
    share_metrics()

# Lines of text, or with THUMBPROXY_LOG_FORMAT=json of JSON. For an access log there is
# THUMBPROXY_ACCESS_LOG=true, which knows more than gunicorn's.
logger_class = Log
log_as_configured()
accesslog = None
errorlog = "-"
