"""Every piece of code that the documentation shows is run, or says why it is not."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import promql_parser
import pytest
import servers
from origin import Gallery, jpeg, opened
from snippets import (
    CALL,
    COMMAND,
    PAGES,
    ROOT,
    SETTING,
    SNIPPETS,
    Reader,
    Snippet,
    claim,
    found_in,
    unclaimed,
)
from test_urls import VECTOR_KEY, VECTORS

import thumbproxy
from thumbproxy import Signer, Thumbnails, ThumbProxy
from thumbproxy.assembly.build import standalone
from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import EXAMPLE_KEYS
from thumbproxy.urls.codec import UrlCodec

# What other tests run, in their own way.
ELSEWHERE = {
    "test_http.py": claim("nginx", "docs/serving.md", "location /_thumbproxy"),
    "test_docs_pictures.py": claim("json", "docs/options.md"),
    "test_docs_reference.py": claim("py", "docs/api.md"),
    "test_layers.py": claim("", "docs/architecture.md", r"\Acore\b"),
    "test_wsgi_servers.py": [
        *claim("ini", "docs/serving.md", "uwsgi"),
        *claim("python", "docs/serving.md", "gevent"),
    ],
}
NO_FILE = r"\A(?!# \S+\.py\n)"  # a block that is a file says so in its first line


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_every_snippet_is_run_or_says_why_not() -> None:
    for module in ("test_snippets_commands", "test_snippets_sites", "test_bare_debian"):
        importlib.import_module(module)
    assert [f"{left} ({left.language}): {left.text}" for left in unclaimed()] == []
    for file, claimed in ELSEWHERE.items():
        for snippet in claimed:
            assert Path(snippet.page).name in (ROOT / "tests" / file).read_text()


INLINE = (COMMAND, SETTING, CALL)
TEXT = """
Run `thumbproxy keygen`, or `make` with
`make demo
ARGS=x`; `a|b` is none. `max_age = 60`, `url(source)`. In tables, `thumbproxy cache a\\|b`.

```python
one()
```

- a list
  ~~~sh
  two
  ~~~

    indented

<!-- not run: a picture -->
```text
three
```
"""


def test_snippets_are_found_however_they_are_written() -> None:
    found = [(s.line, s.language, s.text, s.why_not) for s in found_in("page", TEXT)]
    assert sorted(found) == [
        (2, COMMAND, "thumbproxy keygen", ""),
        (3, COMMAND, "make demo ARGS=x", ""),
        (4, CALL, "url(source)", ""),
        (4, COMMAND, "thumbproxy cache a|b", ""),
        (4, SETTING, "max_age = 60", ""),
        (6, "python", "one()\n", ""),
        (11, "sh", "two\n", ""),
        (15, "", "indented\n", ""),
        (17, "text", "three\n", "a picture"),
    ]


def test_no_block_is_written_in_another_way() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text()
        blocks = [s for s in SNIPPETS if s.page == page and s.language not in ("", *INLINE)]
        assert len(re.findall(r"(?m)^ *(?:```|~~~)", text)) == 2 * len(blocks), page
        assert "<pre>" not in text


# -- Python ----------------------------------------------------------------------------------


PYTHON: dict[str, list[Snippet]] = {}
for found in claim("python", having=NO_FILE):
    PYTHON.setdefault(found.page, []).append(found)


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs_in_the_order_of_its_page(page: str, reader: Reader) -> None:
    """With an application that has pictures, and where a page is about URLs, with `thumbs`.

    What comes out is a middleware that resizes the application's pictures.
    """
    app = Gallery(**{"photos/cat.jpg": jpeg(1200, 800)})
    names: dict[str, Any] = {"__name__": "__main__", "app": app}
    if page != "README.md":
        names["thumbs"] = Thumbnails([servers.KEY])
    for snippet in PYTHON[page]:
        code = reader.fitted(snippet.text)
        exec(compile("\n" * snippet.line + code, ROOT / page, "exec"), names)
        for made in (names.get("application"), names["app"]):
            if isinstance(made, ThumbProxy):
                with servers.wsgi(made) as server:
                    url = Thumbnails([servers.KEY]).url("photos/cat.jpg", width=90, format="webp")
                    assert opened(server.ask(url).body).size == (90, 60)
                names.update(app=app, application=None)


def test_the_url_in_the_readme_is_the_one_that_its_example_builds() -> None:
    code = PYTHON["README.md"][0].text
    names: dict[str, Any] = {}
    call, _, comment = code.rpartition("# ")
    exec(compile(call.replace("thumbs.url(", "url = thumbs.url("), "example", "exec"), names)
    assert names["url"] == comment.strip()


def test_example_keys_are_refused_by_servers() -> None:
    text = "\n".join(snippet.text for snippet in SNIPPETS)
    keys = set(re.findall(r'keys ?= ?\["([^"]+)"\]', text, re.IGNORECASE))
    assert keys <= EXAMPLE_KEYS
    assert len(keys) >= 2


SIGNATURES = claim(CALL, "docs/urls.md", r"^(url|srcset|picture)\(source")
CALLS_OF_APP = claim(CALL, having=r"^app\.")
ARGUMENTS = claim(CALL, having=r"^\w+=\{")
ORIGINS = claim(CALL, having=r"^(\w+Origin|Folder)\(")


@pytest.mark.parametrize("snippet", SIGNATURES, ids=lambda snippet: snippet.text.partition("(")[0])
def test_signatures_are_those_of_the_methods(snippet: Snippet) -> None:
    names: dict[str, Any] = {}
    exec(f"def {snippet.text}: pass", names)
    name = snippet.text.partition("(")[0]
    told = inspect.signature(names[name]).parameters.values()
    real = inspect.signature(getattr(Thumbnails([servers.KEY]), name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in told] == [
        (p.name, p.kind, p.default) for p in real
    ]


def test_calls_in_the_text_can_be_made(tmp_path: Path) -> None:
    given = {"keys": [servers.KEY], "cache_dir": str(tmp_path)}
    names = {name: getattr(thumbproxy, name) for name in thumbproxy.__all__}
    app = ThumbProxy(Gallery(), **given)
    for snippet in CALLS_OF_APP:
        assert eval(snippet.text, {"app": app}).complete
    for snippet in ARGUMENTS:
        ThumbProxy(Gallery(), **given, **eval(f"dict({snippet.text})", names))
    for snippet in ORIGINS:
        origin = eval(snippet.text, {**names, "app": Gallery()})
        ThumbProxy(Gallery(), **given, origins={"": origin})


# -- configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize("snippet", claim("toml"), ids=str)
def test_configuration_starts_a_server(
    snippet: Snippet, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, but for the key, and files and servers that are only there in the text."""
    for variable in re.findall(r'env = "(\w+)"', snippet.text):
        monkeypatch.setenv(variable, "a secret")
    logo = reader.home / "logo.png"
    logo.write_bytes(jpeg(20, 10))
    reader.places |= {"/etc/thumbproxy/logo.png": str(logo), "/srv/uploads": str(reader.media)}
    reader.places |= dict.fromkeys(EXAMPLE_KEYS, servers.KEY)
    text = reader.fitted(snippet.text)
    more = {"cache_dir": str(reader.cache), "keys": [servers.KEY], "origin": str(reader.media)}
    given = tomllib.loads(text)
    if "origins" in given:
        del more["origin"]
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in more.items() if name not in given]
    (reader.home / "thumbproxy.toml").write_text("".join(lines) + text)
    settings = Settings.load(str(reader.home / "thumbproxy.toml"), {})
    for name in given:
        assert getattr(settings, name) not in ((), "", None)
    with servers.wsgi(standalone(settings)) as server:
        assert server.ask("/thumb/x").status == 404


@pytest.mark.parametrize("snippet", claim(SETTING), ids=str)
def test_a_setting_in_the_text_is_accepted(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    text = snippet.text
    if text.startswith("whole "):  # of a CDN, as the page says
        text = f'[cdn.fastly]\nservice = "x"\ntoken = "y"\n{text}'
    file.write_text(f'keys = ["{servers.KEY}"]\n{text}\n')
    Settings.load(str(file), {})


[QUERIES] = claim("promql")


def test_every_query_is_promql() -> None:
    """Also those of the dashboard. (That their metrics exist is in test_metrics.py.)"""
    shown = re.split(r"\n\n+", QUERIES.text)
    assert len(shown) == 5
    dashboard = json.loads((ROOT / "conf" / "grafana.json").read_text())
    shown += [
        target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    for query in shown:
        promql_parser.parse(re.sub(r"\$\w+", "x", query))


# -- URLs, in this and other languages -------------------------------------------------------


@pytest.mark.parametrize("snippet", claim("text", having="(?m)^/thumb/"), ids=str)
def test_an_address_is_signed_with_the_key_of_the_vectors(snippet: Snippet) -> None:
    address = snippet.text.splitlines()[-1]
    request = UrlCodec(Signer([VECTOR_KEY])).parse(address)
    assert request is not None
    _, signature, format = address.rsplit(".", 2)
    for form in snippet.text.splitlines()[:-1]:
        assert address == form.format(
            prefix="/thumb", source=request.source, options=request.options,
            signature=signature, format=format,
        )  # fmt: skip


CALLS = {
    "js": ("node", "thumb.mjs", "", "console.log(thumb({}));"),
    "php": ("php", "thumb.php", "<?php\n", "echo thumb({}), \"\\n\";"),
    "ruby": ("ruby", "thumb.rb", "", "puts thumb({})"),
}  # fmt: skip


@pytest.mark.parametrize("snippet", [claim(name)[0] for name in CALLS], ids=str)
def test_signatures_in_other_languages_are_ours(snippet: Snippet, tmp_path: Path) -> None:
    program, file, head, call = CALLS[snippet.language]
    # JSON's strings are strings of all three.
    calls = [
        call.format(", ".join(json.dumps(part, ensure_ascii=False) for part in (VECTOR_KEY, *row)))
        for row in [vector[:3] for vector in VECTORS]
    ]
    (tmp_path / file).write_text("\n".join([head + snippet.text, *calls]))
    done = subprocess.run([program, tmp_path / file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = done.stdout.splitlines()
    urls = UrlCodec(Signer([VECTOR_KEY]))
    for url, (source, options, format, signature) in zip(made, VECTORS, strict=True):
        assert unquote(url) == f"/thumb/{source}/{options}.{signature}.{format}"
        assert url.isascii()
        assert not set(url) & set('?# "')
        assert urls.parse(unquote(url)) is not None


# -- commands in the text, of the checkout ---------------------------------------------------


@pytest.mark.parametrize(
    "snippet", claim(COMMAND, having="^make ") + claim("sh", having="^make "), ids=str
)
def test_make_knows_its_targets(snippet: Snippet) -> None:
    for line in snippet.text.splitlines():
        arguments = shlex.split(line, comments=True)
        done = subprocess.run([arguments[0], "-n", *arguments[1:]], cwd=ROOT, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr


INSTALL = claim(COMMAND, having="^pip ") + claim("sh", having="pip install")


@pytest.mark.parametrize("snippet", INSTALL, ids=str)
def test_extras_that_are_to_be_installed_exist(snippet: Snippet) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = shlex.split(snippet.text, comments=True)
    wanted = {extra for word in words for extra in re.findall(r"\[(.+)\]", word)}
    assert wanted or words[-1] == "."
    for extras in wanted:
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


@pytest.mark.parametrize(
    "snippet",
    claim(COMMAND, having="^python .*benchmarks") + claim("sh", having="^python benchmarks"),
    ids=str,
)
def test_benchmarks_have_the_options_that_are_shown(snippet: Snippet) -> None:
    words = shlex.split(re.sub(r"[\[\]]", " ", snippet.text))
    shown = [word for word in words if word.startswith("--")]
    script = words[1:3] if words[1] == "-m" else words[1:2]
    done = subprocess.run([sys.executable, *script, "--help"], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for option in shown:
        assert option in done.stdout


TESTS = claim(COMMAND, having="^pytest ")


@pytest.mark.parametrize("snippet", claim(COMMAND, having=r"^python -X \w+$"), ids=str)
def test_python_has_the_modes_that_are_named(snippet: Snippet) -> None:
    words = [*shlex.split(snippet.text)[1:], "-c", "import sys; print(*sys._xoptions)"]
    told = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    assert words[1] in told.stdout.split()


def test_tests_that_are_named_exist() -> None:
    """Each command of the table selects some."""
    for snippet in TESTS:
        words = shlex.split(snippet.text)[1:]
        word = words.index("-k") if "-k" in words else len(words)
        files = [ROOT / name for name in words[:word]]
        files = [f for file in files for f in (file.glob("test_*.py") if file.is_dir() else [file])]
        tests = {
            f"{file.name}::{name}"
            for file in files
            for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
        }
        for part in re.split(" or ", words[word + 1]) if word < len(words) else [""]:
            assert any(part in test for test in tests), (words, part)


# Commands by their names, with what they take: `thumbproxy purge SOURCE`.
NAMED = claim(COMMAND, having=r"^thumbproxy [a-z]+( [a-z|]+)?( [A-Z\[][^-]*)?$")


@pytest.mark.parametrize("snippet", NAMED, ids=str)
def test_commands_that_are_named_take_what_is_shown(snippet: Snippet) -> None:
    _, first, *rest = re.sub(r"[\[\]…]", "", snippet.text).split()
    command: Any = main.commands[first]
    if hasattr(command, "commands"):
        for name in rest[0].split("|"):
            assert name in command.commands
    elif rest:
        command.make_context(first, rest)  # raises what the command would say
