"""Settings that can be used, and should not be."""

from __future__ import annotations

import ipaddress
import math
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from thumbproxy.admission import misses_of
from thumbproxy.doctor.findings import Finding, Level
from thumbproxy.settings import Settings

_GROUP = "settings"
# Words of those who meant to change it later.
_WORDS = ("change", "secret", "password", "passwort", "example", "default", "qwerty", "123456",
          "thumbproxy", "letmein", "test-key", "testkey", "signing-key")  # fmt: skip
# Bits, by the frequencies of its characters: what `thumbproxy keygen` makes has 200.
_WEAK_BITS, _POOR_BITS = 40, 64
_MANY_KEYS = 3
# Times its default, from which on a limit protects no more.
_FAR = 4
_PROTECTING = ("max_source_bytes", "max_source_pixels", "max_frames", "max_output_side",
               "max_redirects", "fetch_timeout", "request_timeout", "render_timeout",
               "render_pixels", "render_memory")  # fmt: skip
_METADATA = ipaddress.ip_address("169.254.169.254")


def safety(settings: Settings, config: str | None) -> Iterator[Finding]:
    """settings: as `serve` has them; config: the file that they were read from, if any."""
    found = [
        *_keys(settings),
        *_tokens(settings),
        *_file(settings, config),
        *_network(settings),
        *_times(settings),
        *_limits(settings),
    ]
    if all(finding.level in ("ok", "note") for finding in found):
        found.insert(0, _of("ok", "nothing unsafe"))
    yield from found


def _of(level: Level, text: str, advice: str = "") -> Finding:
    return Finding(_GROUP, level, text, advice)


def bits(key: str) -> float:
    """What is unexpected in a text, at most, by how often each of its characters comes."""
    counts = Counter(key).values()
    return -sum(count * math.log2(count / len(key)) for count in counts)


def _keys(settings: Settings) -> Iterator[Finding]:
    make = "`thumbproxy keygen` makes a good one"
    for number, key in enumerate(settings.keys, 1):
        name = f"key {number} of {len(settings.keys)}"
        word = next((word for word in _WORDS if word in key.lower()), None)
        if bits(key) < _WEAK_BITS:
            yield _of("critical", f"{name} repeats itself, and can be guessed", make)
        elif word:
            yield _of("critical", f"{name} has a word that everyone would try", make)
        elif bits(key) < _POOR_BITS:
            yield _of("warning", f"{name} is short", make)
    if len(set(settings.keys)) < len(settings.keys):
        yield _of("warning", "a key is there twice", "leave one of them out")
    if len(settings.keys) > _MANY_KEYS:
        text = f"there are {len(settings.keys)} keys, and all verify"
        yield _of("note", text, "remove those whose URLs are out of use")


def _tokens(settings: Settings) -> Iterator[Finding]:
    tokens = {"purge_token": settings.purge_token, "metrics_token": settings.metrics_token}
    given = {name: token for name, token in tokens.items() if token}
    for name, token in given.items():
        if token in settings.keys:
            text = f"{name} is a signing key as well: who may use it can sign any URL"
            yield _of("critical", text, "choose another")
        elif bits(token) < _WEAK_BITS:
            text = f"{name} repeats itself, and can be guessed"
            yield _of("critical", text, "`thumbproxy keygen` makes a good one")
    if len(given) == len(tokens) and len(set(given.values())) == 1:
        text = "purge_token and metrics_token are the same: who may look may purge"
        yield _of("warning", text, "choose two")


def _file(settings: Settings, config: str | None) -> Iterator[Finding]:
    if config is None:
        return
    try:
        mode, text = Path(config).stat().st_mode, Path(config).read_text(errors="replace")
    except OSError:
        return
    secrets = (*settings.keys, settings.purge_token, settings.metrics_token)
    if mode & stat.S_IWOTH:
        yield _of("critical", f"everyone may change {config}", f"chmod o-w {config}")
    elif mode & stat.S_IROTH and any(secret and secret in text for secret in secrets):
        yield _of("warning", f"everyone on this host may read the secrets in {config}",
                  f"chmod 640 {config}")  # fmt: skip


def _network(settings: Settings) -> Iterator[Finding]:
    for text in settings.allow_networks:
        network = ipaddress.ip_network(text, strict=False)
        if not network.prefixlen:
            yield _of("critical", f"allow_networks has {text}: an origin can send us anywhere",
                      "name the networks that it needs")  # fmt: skip
        elif network.version == _METADATA.version and _METADATA in network:
            yield _of("critical", f"allow_networks has {text}, where clouds keep credentials",
                      "name smaller networks")  # fmt: skip
    host = settings.bind.rpartition(":")[0].strip("[]")
    if settings.bind.startswith("unix:"):
        return
    try:
        open_to_all = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        open_to_all = host != "localhost"
    if open_to_all:
        yield _of("note", f"it listens on {settings.bind}: whoever reaches it can hold connections",
                  "put nginx or a CDN in front, and let nobody else reach it")  # fmt: skip


def _times(settings: Settings) -> Iterator[Finding]:
    misses = settings.misses or misses_of(settings.threads)
    if misses >= settings.threads:
        yield _of("critical", f"misses ({misses}) is not below threads ({settings.threads}): while "
                  "an origin is slow, nothing is left for hits",
                  "leave misses out, or raise threads")  # fmt: skip
    if settings.isolation == "threads":
        yield _of("warning", "isolation is \"threads\": a picture that crashes a decoder ends the "
                  "process, and nothing can stop one that hangs",
                  "leave it out: `serve` then uses processes")  # fmt: skip
    for name in ("fetch_timeout", "render_timeout"):
        if getattr(settings, name) > settings.request_timeout:
            yield _of("warning", f"{name} ({getattr(settings, name):g} s) is longer than "
                      f"request_timeout ({settings.request_timeout:g} s), which ends it",
                      "make request_timeout the longest")  # fmt: skip
        if not getattr(settings, name):
            yield _of("critical", f"{name} is 0: nothing ends in time", "leave it out")


def _limits(settings: Settings) -> Iterator[Finding]:
    defaults: dict[str, Any] = {setting.name: setting.default for setting in fields(Settings)}
    for name in _PROTECTING:
        value, default = getattr(settings, name), defaults[name]
        if value > _FAR * default:
            yield _of("warning", f"{name} is {value:,}, {value / default:.0f} times the default: "
                      "one request may cost so much",
                      "lower it, unless all origins are yours")  # fmt: skip
