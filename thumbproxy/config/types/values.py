"""Values that stand alone or in lists."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thumbproxy.config.types.refusals import Refusal, together
from thumbproxy.urls.hosts import PORTS, plain_host
from thumbproxy.urls.signing import MINIMUM_KEY_BYTES

# Keys that stand in documentation: whoever reads it could sign with them.
EXAMPLE_KEYS = {
    "your signing key",
    "the newest key signs, all of them verify",
    "correct-horse-battery-staple-0001",
}


class Switch:
    allowed = "true or false"
    _words: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}

    def read(self, text: str) -> bool:
        return self._words[text.lower()]

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value


class Network:
    allowed = "a network like 10.0.0.0/8"

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        return str(ipaddress.ip_network(value))


@dataclass(frozen=True)
class ListOf:
    """Several values of a kind; separated by commas where they are text."""

    kind: Any

    @property
    def allowed(self) -> str:
        return f"a list, each {self.kind.allowed}"

    def read(self, text: str) -> tuple[Any, ...]:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return self._each(parts, self.kind.read)

    def check(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            raise Refusal("one text is not a list")
        return self._each(value, self.kind.check)

    def _each(self, values: Iterable[Any], take: Callable[[Any], Any]) -> tuple[Any, ...]:
        taken, refusals = [], []
        for value in values:
            try:
                taken.append(take(value))
            except Refusal as refusal:
                refusals.append(refusal)
        if refusals:
            raise together(refusals)
        return tuple(taken)


class WebOrigin:
    """An origin as browsers name it in an Origin header (RFC 6454 section 6.2): in small letters,
    the host in ASCII, and no port where it is that of the scheme."""

    allowed = 'an origin like https://shop.example.com, or "*" alone for all'
    _form = re.compile(
        r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)"
        r"(?::(?P<port>[0-9]{1,5}))?",
        re.IGNORECASE,
    )

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if value == "*":
            return value
        if value == "null":
            raise Refusal(
                "'null' is what sandboxed pages of any site are called, so it names nobody"
            )
        found = self._form.fullmatch(value)
        try:
            if found is None:
                raise ValueError
            scheme, host = found["scheme"].lower(), plain_host(found["host"])
            port = PORTS.get(scheme) if found["port"] is None else int(found["port"])
        except ValueError:
            raise Refusal(f"{value[:80]!r} is no origin: scheme, host, perhaps a port") from None
        if port is not None and not 1 <= port <= 65_535:
            raise Refusal(f"{value!r} has no port that there can be")
        plain = port is None or port == PORTS.get(scheme)
        return f"{scheme}://{host}" if plain else f"{scheme}://{host}:{port}"


class WebOrigins(ListOf):
    """Origins, each once; "*" stands alone, also without being in a list."""

    def __init__(self) -> None:
        super().__init__(WebOrigin())

    def check(self, value: Any) -> tuple[str, ...]:
        taken = tuple(dict.fromkeys(super().check(["*"] if value == "*" else value)))
        if "*" in taken and len(taken) > 1:
            raise Refusal("'*' is all origins: leave out the others")
        return taken

    def read(self, text: str) -> tuple[str, ...]:
        return self.check(super().read(text))


class Key:
    allowed = (
        f"a secret of {MINIMUM_KEY_BYTES} bytes at least, not an example; "
        "`thumbproxy keygen` makes one"
    )

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if len(value.encode()) < MINIMUM_KEY_BYTES:
            raise Refusal(f"a key of {len(value.encode())} bytes is too short")
        if value in EXAMPLE_KEYS:
            raise Refusal("this key is an example of the documentation, which everyone can read")
        return value
