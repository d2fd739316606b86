"""Whether a server can reach its origins, its upstream and nginx's cache, and can listen."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from thumbproxy.config.settings import Settings
from thumbproxy.doctor.findings import Finding, Level
from thumbproxy.urls.hosts import PORTS, host_entry

_GROUP = "reach"
_SECONDS = 2.0
_LAST_PORT = 65_535
# Names below which anybody can have a host, besides those of one label.
_PUBLIC = {
    "co.uk", "org.uk", "com.au", "co.jp", "com.br", "co.nz", "co.za", "com.cn", "co.in",
    "amazonaws.com", "s3.amazonaws.com", "cloudfront.net", "storage.googleapis.com", "appspot.com",
    "web.app", "blob.core.windows.net", "azurewebsites.net", "azureedge.net", "herokuapp.com",
    "github.io", "gitlab.io", "netlify.app", "vercel.app", "pages.dev", "workers.dev", "r2.dev",
    "digitaloceanspaces.com", "b-cdn.net", "fly.dev", "onrender.com",
}  # fmt: skip


def reach(settings: Settings) -> Iterator[Finding]:
    """settings: as `serve` has them."""
    places = {prefix: origin.location for prefix, origin in settings.origins.items()}
    if settings.origin:
        places[""] = settings.origin
    for prefix, place in places.items():
        if place:
            name = f"origin {prefix}".strip()
            yield from _server(name, place) if "://" in place else _folder(name, place)
    if settings.upstream:
        yield from _server("upstream", settings.upstream)
    for origin in settings.origins.values():
        for entry in origin.hosts:
            yield from _host(entry)
    yield from _nginx(settings.nginx_cache_dir)
    yield from _bind(settings.bind)


def _of(level: Level, text: str, advice: str = "") -> Finding:
    return Finding(_GROUP, level, text, advice)


def _server(name: str, url: str) -> Iterator[Finding]:
    target = urlsplit(url)
    where = f"{name}: {target.scheme}://{target.netloc}"
    try:
        port = target.port or PORTS[target.scheme.lower()]
        socket.create_connection((target.hostname or "", port), _SECONDS).close()
    except (OSError, ValueError, KeyError) as error:
        why = getattr(error, "strerror", None) or error
        yield _of("critical", f"{where} cannot be reached: {why}",
                  "start it, or correct its URL; there is only what is cached")  # fmt: skip
    else:
        yield _of("ok", f"{where} accepts connections")


def _folder(name: str, path: str) -> Iterator[Finding]:
    try:
        with os.scandir(os.path.expanduser(path)) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        yield _of("critical", f"{name}: {path} cannot be read: {error.strerror}",
                  "let this user read it")  # fmt: skip
        return
    if empty:
        yield _of("note", f"{name}: {path} is empty: its pictures are all \"not found\"",
                  "if it is a mount, see that it is mounted")  # fmt: skip
    else:
        yield _of("ok", f"{name}: {path} can be read")


def _host(entry: str) -> Iterator[Finding]:
    server, wild = host_entry(entry)
    if wild and ("." not in server.host or server.host in _PUBLIC):
        yield _of("warning", f"the host {entry} of an origin is anybody's: everyone can have one "
                  f"below {server.host}", "name the hosts that are meant")  # fmt: skip
    try:
        address = ipaddress.ip_address(server.host.strip("[]"))
    except ValueError:
        return
    if not address.is_global:
        kind = "link-local, where clouds keep credentials" if address.is_link_local else "private"
        yield _of("warning", f"the host {entry} of an origin is an address that is {kind}",
                  "an origin of its own, by its URL, does without `hosts`")  # fmt: skip


def _nginx(directory: str) -> Iterator[Finding]:
    place = Path(directory).expanduser()
    if not directory:
        return
    if not place.is_absolute():
        yield _of("warning", f"nginx_cache_dir, {directory}, is relative, and so begins where "
                  "`serve` is started", "write all of it, as in proxy_cache_path")  # fmt: skip
    if not place.is_dir():
        yield _of("warning", f"nginx_cache_dir, {directory}, is no folder that can be found: no "
                  "purge reaches nginx", "write it as in proxy_cache_path")  # fmt: skip


def _bind(bind: str) -> Iterator[Finding]:
    if bind.startswith("unix:"):
        folder = os.path.dirname(os.path.abspath(bind.removeprefix("unix:")))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            yield _of("critical", f"no socket can be made in {folder}",
                      "make it a folder that this user may write to")  # fmt: skip
        return
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        if int(port) > _LAST_PORT:
            raise OSError(errno.EINVAL, "there is no such port")
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield _of("note", f"somebody listens on {bind} already",
                      "if that is not your thumbproxy, choose another `bind`")  # fmt: skip
            return
        yield _of("critical", f"nobody can listen on {bind}: {error.strerror}",
                  "choose another `bind`")  # fmt: skip
    else:
        yield _of("ok", f"it can listen on {bind}")
