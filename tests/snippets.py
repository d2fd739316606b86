"""What the documentation shows as code, found in its pages, each piece for the test that runs it.

A snippet is a block of code, or what is whole in the text: a command (`thumbproxy keygen`), a
setting (`max_age = 60`), a call of what the package offers (`app.purge("")`). A test takes those
that it runs with `claim`; `unclaimed()` are those that nobody runs. A comment right before a block,
`<!-- not run: why -->`, says that it is none: output of one machine, a formula.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import servers
from origin import jpeg

ROOT = Path(__file__).parent.parent
# The languages of what stands in the text.
COMMAND, SETTING, CALL = "command", "setting", "call"

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>.+) -->\n+)?"
    r"(?: *(?P<fence>```+|~~~+)(?P<language>.*)\n(?P<fenced>(?:.*\n)*?) *(?P=fence)$"
    r"|(?<=\n\n)(?P<indented>(?: {4}.*\n|\n(?= {4}))+))",
    re.MULTILINE,
)
# A command in the text begins with one of these. (`kill -9` is not here: it is a way to end.)
_PROGRAMS = re.compile(
    r"(?:apt-get|aws|cat|cp|curl|df|docker|git|gunicorn|make|memcached|mkdir|nginx|node|php|pip|ps"
    r"|pytest|python3?|ruby|sed|sh|sudo|tar|thumbproxy|uwsgi|wget) .+|THUMBPROXY_[A-Z_]+=.+"
)
_INLINE = {
    COMMAND: _PROGRAMS,
    SETTING: re.compile(r"[a-z_]+ = .+"),
    CALL: re.compile(
        r"(?:app\.\w+|url|srcset|picture|remote_source|\w+Origin|Folder)\(.*\)|\w+=\{.*\}"
    ),
}
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)*)`")


@dataclass(frozen=True)
class Snippet:
    """line: of its page, from 1. why_not: why it is not run, or nothing."""

    page: str
    line: int
    language: str
    text: str
    why_not: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def found_in(page: str, text: str) -> Iterator[Snippet]:
    def line(at: int) -> int:
        return text.count("\n", 0, at) + 1

    prose = text
    for block in _BLOCK.finditer(text):
        start, end = block.span()
        prose = prose[:start] + re.sub(r"[^\n]", " ", prose[start:end]) + prose[end:]
        code = dedent(block["fenced"] if block["fence"] else block["indented"])
        language = (block["language"] or "").strip()
        yield Snippet(page, line(start), language, code, block["why"] or "")
    for span in _SPAN.finditer(prose):
        code = " ".join(span[1].replace("\\|", "|").split())
        for language, form in _INLINE.items():
            if form.fullmatch(code):
                yield Snippet(page, line(span.start()), language, code)


PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
SNIPPETS = [found for page in PAGES for found in found_in(page, (ROOT / page).read_text())]
_claimed: set[Snippet] = set()


def claim(language: str, page: str = "", having: str = "") -> list[Snippet]:
    """The snippets of a language, of one page or all, that have this regular expression in them.

    Whoever claims them runs them. Raises LookupError where there are none.
    """
    claimed = [
        snippet
        for snippet in SNIPPETS
        if snippet.language == language
        and page in ("", snippet.page)
        and re.search(having, snippet.text)
        and not snippet.why_not
    ]
    if not claimed:
        raise LookupError(f"{page or 'no page'} has no {language} with {having!r}")
    _claimed.update(claimed)
    return claimed


def unclaimed() -> list[Snippet]:
    return [found for found in SNIPPETS if found not in _claimed and not found.why_not]


class Reader:
    """Somebody who does what a page says: at home in a folder, with pictures in /srv/media.

    places: what stands in the pages -> what is there in the test: folders, ports, keys
    """

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.media, self.cache = home / "media", home / "cache"
        self.places = {
            "/srv/media": str(self.media),
            "/var/cache/thumbproxy": str(self.cache),
            "your signing key": servers.KEY,
        }
        clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
        programs = f"{Path(sys.executable).parent}:{clean['PATH']}:/usr/sbin:/sbin"
        own = {"HOME": str(home), "PATH": programs, "THUMBPROXY_CACHE_DIR": str(self.cache),
               "THUMBPROXY_WORKERS": "1"}  # fmt: skip
        self.environ = {**clean, **own, **environ}
        for name in ("photos/cat.jpg", "photos/dogs/rex.jpg", "static/photos/cat.jpg"):
            (self.media / name).parent.mkdir(parents=True, exist_ok=True)
            (self.media / name).write_bytes(jpeg(600, 400))

    def fitted(self, text: str) -> str:
        for shown, here in self.places.items():
            text = text.replace(shown, here)
        return text

    def run(self, text: str, input: str = "", status: int = 0) -> str:
        """What a shell prints that runs all of this, as `sh -e` does."""
        done = subprocess.run(
            ["sh", "-euc", self.fitted(text)], cwd=self.home, env=self.environ, input=input,
            capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        assert done.returncode == status, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, text: str) -> Iterator[servers.Server]:
        """The server that is the last command of a snippet; its output goes to a file."""
        port = servers.free_port()
        last = re.compile(r"^thumbproxy serve", re.MULTILINE)
        script, times = last.subn("exec thumbproxy serve", self.fitted(text))
        assert times == 1, text
        environ = {"THUMBPROXY_BIND": f"{servers.HOST}:{port}", **self.environ}
        with (
            open(self.home / "printed", "wb") as printed,
            open(self.home / "log", "wb") as log,
            servers.running(["sh", "-euc", script], port, cwd=self.home, env=environ,
                            stdout=printed, stderr=log) as server,
        ):  # fmt: skip
            yield server

    @property
    def printed(self) -> list[str]:
        """The words of the first line."""
        return (self.home / "printed").read_text().partition("\n")[0].split()
