"""Clients of every kind, good and bad, who look at each reply."""

from __future__ import annotations

import http.client
import multiprocessing
import random
import threading
import time
from collections.abc import Mapping
from hashlib import sha256
from multiprocessing.connection import Connection
from typing import NamedTuple

from thumbproxy import Signer

from .gallery import OUTPUTS, Picture, Wanted, fault_of
from .kinds import Record
from .servers import HOST, KEY, THUMBS, TOKEN

_FACTORY = multiprocessing.get_context("fork")
KEPT_WIDTH = 160
# How often records are handed over, seconds.
_EVERY = 0.5
_FORMATS = ("jpg",) * 8 + ("webp",) * 6 + ("png",) * 3 + ("gif",) * 2 + ("avif",)


class Plan(NamedTuple):
    """What to ask for. pause: most seconds between two requests of a client. small: pictures of 100
    pixels at most, of the small sources, and no AVIF: ten times as many in the same time."""

    port: int
    mix: Mapping[str, int]
    seed: int
    pause: float
    small: bool = False


class Clients:
    """A process with `count` clients that ask one thing after another."""

    def __init__(self, plan: Plan, gallery: list[Picture], count: int) -> None:
        self._ours, theirs = _FACTORY.Pipe()
        self._process = _FACTORY.Process(
            target=_run, args=(plan, gallery, count, theirs), daemon=True
        )
        self._process.start()

    def records(self) -> list[Record]:
        """What has come in since the last time."""
        found: list[Record] = []
        while self._ours.poll():
            found += self._ours.recv()
        return found

    def close(self) -> list[Record]:
        """The rest of the records, when all have ended what they were at."""
        self._ours.send(None)
        found: list[Record] = []
        while (records := self._ours.recv()) is not None:
            found += records
        self._process.join()
        return found


def _run(plan: Plan, gallery: list[Picture], count: int, asked: Connection) -> None:
    over, lock = threading.Event(), threading.Lock()
    clients = [_Client(plan._replace(seed=plan.seed * 1000 + n), gallery, over, asked, lock)
               for n in range(count)]  # fmt: skip
    # Daemons, or they would go on when the benchmark is interrupted.
    threads = [threading.Thread(target=client.go_on, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    asked.recv()
    over.set()
    for thread in threads:
        thread.join()
    asked.send(None)


class _Client:
    def __init__(
        self,
        plan: Plan,
        gallery: list[Picture],
        over: threading.Event,
        asked: Connection,
        lock: threading.Lock,
    ) -> None:
        self._plan = plan
        self._gallery = gallery
        self._over = over
        self._asked = asked
        self._lock = lock
        self._numbers = random.Random(plan.seed)
        self._count = 0
        self._connection = http.client.HTTPConnection(HOST, plan.port, timeout=40)
        self._seen: dict[str, bytes] = {}  # what was found right at a path
        self._etags: dict[str, str] = {}

    def go_on(self) -> None:
        records, handed_over = [], time.monotonic()
        kinds, weights = list(self._plan.mix), list(self._plan.mix.values())
        while not self._over.wait(self._numbers.uniform(0, self._plan.pause)):
            (kind,) = self._numbers.choices(kinds, weights)
            records.append(self._once(kind))
            if records[-1].ended > handed_over + _EVERY:
                self._hand_over(records)
                records, handed_over = [], time.monotonic()
        self._hand_over(records)
        self._connection.close()

    def _hand_over(self, records: list[Record]) -> None:
        with self._lock:
            self._asked.send(records)

    def _once(self, kind: str) -> Record:
        began = time.monotonic()
        fault, made = "", False
        if kind in ("hit", "miss", "new source"):
            outcome, fault, made = self._picture(kind)
        elif kind == "hangs up":
            outcome = self._hang_up()
        elif kind == "not modified":
            outcome = self._again()
        else:
            outcome = self._ask(*self._odd(kind))[0]
        return Record(kind, began, time.monotonic(), outcome, fault, made)

    def _picture(self, kind: str) -> tuple[str, str, bool]:
        """Outcome, what is wrong with the picture, and whether it was made for us."""
        number, wanted = self._subject(kind)
        name = self._fresh() if kind == "new source" else "kept"
        path = THUMBS.url(f"good/{number}/{name}", None, **wanted.options)
        outcome, headers, body = self._ask("GET", path)
        if outcome != "200":
            return outcome, "", False
        made = "uri-miss" in headers["Cache-Status"] and "collapsed" not in headers["Cache-Status"]
        digest = sha256(body).digest()
        if self._seen.get(path) == digest:
            return outcome, "", made
        fault = fault_of(body, self._gallery[number], wanted)
        if not fault and kind == "hit":
            self._seen[path] = digest
            self._etags[path] = headers["ETag"]
        return outcome, fault, made

    def _subject(self, kind: str) -> tuple[int, Wanted]:
        number = self._numbers.randrange(len(self._gallery))
        picture = self._gallery[number]
        if kind == "hit":
            format = list(OUTPUTS)[number % 3]
            return number, Wanted(KEPT_WIDTH, None, format)
        skipped = 1.0 if self._plan.small else 0.7
        if picture.large and self._numbers.random() < skipped:  # they take ten times as long
            return self._subject(kind)
        format = self._numbers.choice(_FORMATS[:-1] if self._plan.small else _FORMATS)
        most = 100 if self._plan.small else {"avif": 120, "gif": 200}.get(format, 400)
        width = self._numbers.randrange(20, min(most, picture.size[0]))
        height = self._numbers.randrange(20, min(most, picture.size[1]))
        return number, Wanted(width, height if self._numbers.random() < 0.7 else None, format)

    def _fresh(self) -> str:
        self._count += 1
        return f"{self._plan.seed}-{self._count}-{time.monotonic_ns()}"

    def _again(self) -> str:
        if not self._etags:
            return "304"
        path = self._numbers.choice(list(self._etags))
        outcome, headers, _ = self._ask("GET", path, {"If-None-Match": self._etags[path]})
        if outcome == "200":  # purged and fetched again: its time is that of the new fetch
            self._etags[path] = headers["ETag"]
            return "304"
        return outcome

    def _odd(self, kind: str) -> tuple[str, str, dict[str, str]]:
        """Method, path, headers."""
        width = self._numbers.randrange(20, 400)
        good = THUMBS.url(f"good/1/{self._fresh()}", width=width, format="jpg")
        folder, _, signed = good.rpartition("/")
        options, signature, extension = signed.split(".")
        method, headers, path = "GET", {}, good
        if kind == "unsigned":
            path = f"{folder}/{options}.{'A' * 22}.{extension}"
        elif kind == "tampered":
            path = f"{folder}/w_{width + 1}.{signature}.{extension}"
        elif kind == "not canonical":
            path = _not_canonical(f"good/1/{self._fresh()}", width)
        elif kind == "purge":
            number = self._numbers.randrange(len(self._gallery))
            method, path = "PURGE", f"/thumb/good/{number}/"
            headers = {"Authorization": f"Bearer {TOKEN}"}
        else:
            place = {
                "hostile": f"hostile/{self._numbers.randrange(100)}",
                "missing": "missing",
                "origin fails": "fails",
                "origin cuts": "cut",
                "origin hangs": "hangs",
            }[kind]
            path = THUMBS.url(f"{place}/{self._fresh()}", width=width, format="jpg")
        return method, path, headers

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[str, http.client.HTTPMessage, bytes]:
        """Outcome, headers and body. A connection that was kept may have been closed just now by
        who serves it, because it ends: then it is asked once more, as any proxy does."""
        for again in (self._connection.sock is not None, False):
            try:
                names = {"Host": f"host-{self._numbers.randrange(10**9)}.example"}
                self._connection.request(method, path, headers=names | dict(headers or {}))
                response = self._connection.getresponse()
                body = response.read()
                return str(response.status), response.headers, body
            except http.client.IncompleteRead:
                self._connection.close()
                return "cut off", http.client.HTTPMessage(), b""
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if not again:
                    break
        return "no reply", http.client.HTTPMessage(), b""

    def _hang_up(self) -> str:
        """Ask for something that takes time, and go."""
        path = THUMBS.url(f"good/{self._numbers.randrange(40)}/{self._fresh()}",
                          width=300, format="webp")  # fmt: skip
        connection = http.client.HTTPConnection(HOST, self._plan.port, timeout=10)
        try:
            connection.request("GET", path)
            self._over.wait(self._numbers.uniform(0, 0.02))
        except OSError:
            return "no reply"
        finally:
            connection.close()
        return "gone"


def _not_canonical(source: str, width: int) -> str:
    """Signed by who has the key, and not spelled as it should be."""
    options = f"q_75,w_{width}"
    signature = Signer([KEY]).sign(f"{source}/{options}.jpg")
    return f"/thumb/{source}/{options}.{signature}.jpg"
