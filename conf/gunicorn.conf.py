"""gunicorn for thumbproxy, for those who start gunicorn themselves.

    THUMBPROXY_KEYS=… THUMBPROXY_ORIGIN=/srv/media \\
        gunicorn -c conf/gunicorn.conf.py "thumbproxy.build:application()"

`thumbproxy serve` needs none of this. Arguments to gunicorn override what is said here.
"""

from __future__ import annotations

import os

from thumbproxy.server import (
    Log,
    Worker,
    child_exit,
    log_as_configured,
    post_worker_init,
    share_metrics,
)

# gunicorn calls them: what a worker counted is kept when it has ended, and a worker gets ready
# before anybody asks it for anything.
__all__ = ["child_exit", "post_worker_init"]

bind = "127.0.0.1:8080"

# A process for each core, so that Python's lock is no bottleneck. WEB_CONCURRENCY is the name
# that gunicorn itself reads.
# gunicorn's `gthread`, but that a slow client holds no thread of it.
worker_class = Worker
workers = int(os.environ.get("WEB_CONCURRENCY") or os.cpu_count() or 1)
# So that thumbproxy shares the cores out among them.
os.environ.setdefault("THUMBPROXY_WORKERS", str(workers))
# Most of them wait: for an origin, or for another request's render. With another number, give it to
# THUMBPROXY_THREADS as well, because a quarter of them is kept for what need not wait.
threads = 128

# A worker says that it lives by touching a file. On a disk that stalls, that would kill it.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes an unnamed file there

# A worker that is silent for so long is killed. Threads have their own deadline of 25 s.
timeout = 60
# Requests in flight are finished at a reload or a stop, and none takes longer than 25 s.
graceful_timeout = 30
# Longer than the 60 s of nginx's upstream keep-alive: the side that sends requests must hang
# up first, or now and then one is sent into a connection that is being closed.
keepalive = 75

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
