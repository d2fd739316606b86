"""`python -m thumbproxy`, and the command `thumbproxy`."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from thumbproxy.cli import main as command  # noqa: PLC0415 - what it needs are extras
    except ModuleNotFoundError as error:
        sys.exit(f"thumbproxy: {error.name} is not installed; pip install 'thumbproxy[all]'")
    command(prog_name="thumbproxy")


if __name__ == "__main__":
    main()
