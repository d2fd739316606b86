"""Whether a server could listen at its address, before anything is set up for it."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from thumbproxy.config.settings import Settings, UnusableSettings

_LOOPBACK = "127.0.0.1"
# Ports before the first are root's. Of some that follow, one that nobody has is told.
_FIRST_PORT, _USUAL_PORT, _LAST_PORT, _TRIED = 1024, 8080, 65_535, 20
# Of a socket's path, with the zero at its end (unix(7)).
_LONGEST_PATH = 107


def checked_bind(settings: Settings) -> Settings:
    """The settings, if `bind` can be listened on. Raises UnusableSettings.

    gunicorn would try for five seconds, and then say it in ten lines.
    """
    bind = settings.bind
    if _handed_over():
        return settings
    why = _socket_file(bind.removeprefix("unix:")) if bind.startswith("unix:") else _address(bind)
    if why:
        fault = f"bind: cannot listen on {bind}: {why}"
        raise UnusableSettings([fault], {"bind"}, settings)
    return settings


def _handed_over() -> bool:
    """Whether gunicorn takes over sockets that listen: of itself, or of systemd."""
    return "GUNICORN_FD" in os.environ or os.environ.get("LISTEN_PID") == str(os.getpid())


def _address(bind: str) -> str:
    """Why nobody can listen there, and where else one can; "" if one can."""
    host, _, port = bind.rpartition(":")
    try:
        _listen(host, int(port))
    except OverflowError:
        why = "there is no such port"
    except socket.gaierror:
        host, why = _LOOPBACK, "this machine has no such address"
    except OSError as error:
        why = error.strerror or str(error)
    else:
        return ""
    return f"{why}. Choose another with --bind{_other(host, int(port))}."


def _other(host: str, port: int) -> str:
    """An address that is free, as it is given; "" if none is found soon."""
    first = max(port + 1, _FIRST_PORT) if port + _TRIED < _LAST_PORT else _USUAL_PORT
    for place in dict.fromkeys((host, _LOOPBACK)):
        for number in range(first, first + _TRIED):
            with suppress(OSError):
                _listen(place, number)
                return f" {place}:{number}"
    return ""


def _listen(host: str, port: int) -> None:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        listening.bind((host.strip("[]"), port))
        listening.listen()


def _socket_file(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return f"its path is longer than {_LONGEST_PATH} bytes. Choose another with --bind."
    if not os.path.isdir(folder):
        return f"there is no folder {folder!r}. Make it, or choose another with --bind."
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this user may not write to {folder!r}. Choose another with --bind."
    with suppress(OSError):  # there is none yet
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return "there is something else of that name. Choose another with --bind."
    return ""
