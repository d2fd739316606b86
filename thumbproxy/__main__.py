"""`python -m thumbproxy`, and the command `thumbproxy`."""

from __future__ import annotations

# What `signal` is made of: that would load a dozen modules first, and an interrupt meanwhile would
# still be a traceback.
import _signal
import os


def main() -> None:
    # Before anything else is loaded, which takes a second. Python's own KeyboardInterrupt would be
    # a traceback out of whatever was being imported, and is lost where it meets a finalizer.
    # Nothing is half made that somebody would miss; what has to tidy up says so (cli.group).
    _signal.signal(_signal.SIGINT, _end)
    from thumbproxy.cli import main as command  # noqa: PLC0415

    command(prog_name="thumbproxy")


def _end(*_: object) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(128 + _signal.SIGINT)  # as a shell has it


if __name__ == "__main__":
    main()
