"""Values that stand alone or in lists."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thumbproxy.setting_kinds.refusals import Refusal, together
from thumbproxy.signing import MINIMUM_KEY_BYTES

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
