"""The command line: one module for each group of commands, combined here."""

from __future__ import annotations

import click

from thumbproxy._version import __version__
from thumbproxy.cli.cache import cache
from thumbproxy.cli.doctor import doctor
from thumbproxy.cli.explain import explain
from thumbproxy.cli.group import Group
from thumbproxy.cli.purge import purge
from thumbproxy.cli.serve import demo, serve
from thumbproxy.cli.sign import keygen, sign
from thumbproxy.cli.warm import warm


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thumbproxy")
def main() -> None:
    """A caching reverse-proxy for images: signed URLs in, resized pictures out."""


for _command in (serve, demo, sign, keygen, warm, purge, cache, explain, doctor):
    main.add_command(_command)
