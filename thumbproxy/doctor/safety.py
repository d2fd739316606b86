"""Settings that are valid but unsafe."""

from __future__ import annotations

import ipaddress
import math
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from thumbproxy.config.loading import overridden
from thumbproxy.config.settings import DEFAULTS, Settings
from thumbproxy.config.types import Size
from thumbproxy.core.resources import size
from thumbproxy.doctor.findings import Finding, Level
from thumbproxy.scheduling.admission import misses_of

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
# Headers of fetches that hold no secret.
_OPEN = {"accept", "accept-language", "user-agent"}
# Bytes of address space: libraries and arenas take some 200 MiB before there is any picture.
_LITTLE_MEMORY = 512 * 1024 * 1024
_METADATA = ipaddress.ip_address("169.254.169.254")


def safety(settings: Settings, config: str | None) -> Iterator[Finding]:
    """settings: as `serve` has them; config: the file that they were read from, if any."""
    found = [
        *_keys(settings),
        *_tokens(settings),
        *_file(settings, config),
        *_network(settings),
        *_cdns(settings),
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


def overrides(config: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """config: the file, if any; its faults are not looked for. Names are told, and no values."""
    for name, variable in overridden(config, environ).items():
        yield _of("note", f"{name} of {config}: overridden by {variable}",
                  "leave it in one of the two places")  # fmt: skip


def _secret(name: str, secret: str) -> Iterator[Finding]:
    make = "`thumbproxy keygen` makes a good one"
    if bits(secret) < _WEAK_BITS:
        yield _of("critical", f"{name} repeats itself, and can be guessed", make)
    elif any(word in secret.lower() for word in _WORDS):
        yield _of("critical", f"{name} has a word that everyone would try", make)
    elif bits(secret) < _POOR_BITS:
        yield _of("warning", f"{name} is short", make)


def _keys(settings: Settings) -> Iterator[Finding]:
    for number, key in enumerate(settings.keys, 1):
        yield from _secret(f"key {number} of {len(settings.keys)}", key)
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
        else:
            yield from _secret(name, token)
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
    headers = [pair for origin in settings.origins.values() for pair in origin.headers.items()]
    written = [it for name, it in headers if isinstance(it, str) and name.lower() not in _OPEN]
    secrets = (*settings.keys, settings.purge_token, settings.metrics_token, *written)
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


def _cdns(settings: Settings) -> Iterator[Finding]:
    if "cloudflare" in settings.cdn:
        yield _of("note", "Cloudflare, told to cache everything, sends what the first client of an "
                  "`auto` URL takes to all",
                  "give its Cache Rule the setting Vary for Accept, or use "
                  "URLs that name their format, as picture() does: docs/cdn.md")  # fmt: skip


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
    # Of settings that somebody made: a default gives way without a word.
    whole, fetch, render = settings.request_timeout, settings.fetch_timeout, settings.render_timeout
    if fetch > whole and fetch != DEFAULTS["fetch_timeout"]:
        text = f"fetch_timeout ({fetch:g} s) is longer than request_timeout ({whole:g} s)"
        yield _of("warning", f"{text}, which ends it", "make request_timeout the longer one")
    if render > whole / 2 and render != DEFAULTS["render_timeout"]:
        yield _of("note", f"render_timeout ({render:g} s) is clipped to half of request_timeout, "
                  f"{whole / 2:g} s", "raise request_timeout if that is too short")  # fmt: skip


def _limits(settings: Settings) -> Iterator[Finding]:
    if settings.isolation == "processes" and 0 < settings.render_memory < _LITTLE_MEMORY:
        yield _of("warning", f"render_memory is {size(settings.render_memory)}: large pictures "
                  "fail for want of memory", f"{Size().write(_LITTLE_MEMORY)} at least; "
                  f"{Size().write(DEFAULTS['render_memory'])} is the default")  # fmt: skip
    if settings.render_pixels < settings.max_source_pixels:
        yield _of("note", f"render_pixels ({settings.render_pixels:,}) is below max_source_pixels "
                  f"({settings.max_source_pixels:,}): what is larger is made alone, while others "
                  "wait", "raise render_pixels if there is memory")  # fmt: skip
    for name in _PROTECTING:
        value, default = getattr(settings, name), DEFAULTS[name]
        if value > _FAR * default:
            yield _of("warning", f"{name} is {value:,}, {value / default:.0f} times the default: "
                      "one request may cost so much",
                      "lower it, unless all origins are yours")  # fmt: skip
