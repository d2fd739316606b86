"""The server's log: text or JSON, and never blocking.

Every line goes through `Writer`, which hands it to a thread of its own. So a log that is not read
(a pipe that is full, a disk that stalls) costs lines, which are counted, and never a request.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from thumbproxy.core.forking import PerProcess

# Lines that wait to be written; more are dropped.
_MOST_WAITING = 10_000
# Seconds that the end of a process, or of a flush, waits for them.
_PATIENCE = 1.0
# What a record has of its own. The rest was given as `extra`, and is shown as it is.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_log = logging.getLogger(__name__)


def start(format: str) -> None:
    """Have this process, and those that it starts, log to standard error: "text" or "json"."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, Writer):
            root.removeHandler(handler)
            handler.close()
    writer = Writer(2)
    writer.setFormatter(JsonLines() if format == "json" else TextLines())
    root.addHandler(writer)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _told
    threading.excepthook = _told_of_thread


def _told(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("%s ends this process", kind.__name__, exc_info=(kind, error, trace))


def _told_of_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:
        error = told.exc_type, told.exc_value, told.exc_traceback
        _log.error("%s ends a thread", told.exc_type.__name__, exc_info=error)


class TextLines(logging.Formatter):
    """One line for each record, but for tracebacks, whose lines are indented."""

    def __init__(self) -> None:
        super().__init__("[%(process)d] [%(levelname)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        # In local time, with its offset from UTC (RFC 3339): it may change twice a year.
        then = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        return harmless(f"[{then}] {super().format(record)}").replace("\n", "\n    ")


def harmless(text: str) -> str:
    """Text without what a terminal, or a reader of lines, would take for more than text."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        letter if letter == "\n" or letter.isprintable() else ascii(letter)[1:-1] for letter in text
    )


class JsonLines(logging.Formatter):
    """One JSON object for each record, on one line of ASCII.

    time (UTC, RFC 3339), level, logger, message, pid; exception where there is one; and the fields
    of `extra`.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        fields |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        return json.dumps(fields, default=repr)


class Writer(logging.Handler):
    """Writes lines to a file descriptor, in a thread; raises and waits for nothing."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        # What the parent has not written yet, it writes itself.
        self._lines = PerProcess(lambda: _Lines(descriptor, self._of_dropped))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a wrong call of ours must not fail what it tells of
            line = f"a line of {record.name} could not be written: {record.msg!r}"
        self._lines.value.add(line)

    def flush(self) -> None:
        """Wait a moment until what was logged is written."""
        self._lines.value.flush()

    def _of_dropped(self, number: int) -> str:
        text = f"{number} lines were dropped, because they were not read in time"
        return self.format(
            logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        )


class _Lines:
    """Lines that wait to be written, and the thread that writes them.

    of_dropped  the line that tells how many are missing
    """

    def __init__(self, descriptor: int, of_dropped: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._of_dropped = of_dropped
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._written = threading.Condition(threading.Lock())
        self._busy = False
        self._thread: threading.Thread | None = None

    def add(self, line: str) -> None:
        with self._written:
            if len(self._waiting) >= _MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(line)
            if self._thread is None:
                thread = threading.Thread(target=self._write_on, name="log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads: the next line tries again
                    return
                self._thread = thread
            if not self._busy:
                self._written.notify_all()

    def flush(self) -> None:
        until = time.monotonic() + _PATIENCE
        with self._written:
            while (self._waiting or self._busy) and time.monotonic() < until:
                self._written.wait(0.05)

    def _write_on(self) -> None:
        while True:
            with self._written:
                self._busy = False
                self._written.notify_all()
                while not self._waiting:
                    self._written.wait()
                lines = list(self._waiting)
                self._waiting.clear()
                dropped, self._dropped = self._dropped, 0
                self._busy = True
            if dropped:
                lines.append(self._of_dropped(dropped))
            self._write(f"{line}\n".encode("utf-8", "backslashreplace") for line in lines)

    def _write(self, lines: Any) -> None:
        """Each line by a call of its own, so that those of several processes do not mix."""
        for line in lines:
            left = line
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody made it non-blocking
                    time.sleep(0.05)
                except OSError:  # closed, or on a full disk: there is nobody to tell
                    return
