"""What the documentation has of the code: the settings and their example file, the Python API."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import servers
from checkout import script
from origin import jpeg, opened

import thumbproxy
from thumbproxy import SettingKeywords, Thumbnails
from thumbproxy.config.settings import DEFAULTS, FIELDS, GROUPS, Settings
from thumbproxy.config.types import Duration, Size

settings_reference = script("settings-reference")
api_reference = script("api-reference")
ROOT = Path(__file__).parent.parent
EXAMPLE = settings_reference.EXAMPLE.read_text()
UNCOMMENTED = re.sub(r"(?m)^#(?=\w)", "", EXAMPLE)


@pytest.mark.parametrize("path", settings_reference.made(), ids=lambda path: path.name)
def test_what_is_made_from_settings_is_up_to_date(path: Path) -> None:
    assert path.read_text() == settings_reference.made()[path], "`make reference` renews it"


def test_every_setting_is_in_one_group() -> None:
    grouped = [setting.name for group in GROUPS for setting in fields(group)]
    assert sorted(grouped) == sorted(setting.name for setting in fields(Settings))
    assert len(grouped) == len(set(grouped))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_a_group_says_in_two_sentences_when_to_touch_it(group: type[Any]) -> None:
    title, text = settings_reference.introduction(group)
    assert re.fullmatch(r"[A-Z][A-Za-z ]+", title)
    assert len(re.findall(r"\.(?:\s|$)", text)) == 2


def test_the_example_file_has_every_setting_with_its_default() -> None:
    given = tomllib.loads(UNCOMMENTED)
    assert tuple(given) == tuple(FIELDS)
    del given["keys"]
    assert Settings(keys=(servers.KEY,), **given) == Settings(keys=(servers.KEY,))


@pytest.mark.parametrize("text", [EXAMPLE, UNCOMMENTED], ids=["as it is", "without comments"])
def test_a_server_starts_with_the_example_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(jpeg(60, 40))
    config = tmp_path / "thumbproxy.toml"
    config.write_text(text)
    places = ["--origin", str(tmp_path / "photos"), "--cache-dir", str(tmp_path / "cache")]
    with servers.thumbproxy("--config", str(config), *places) as server:
        reply = server.ask(Thumbnails([servers.KEY]).url("cat.jpg", width=30, format="png"))
    assert opened(reply.body).size == (30, 20)


@pytest.mark.parametrize("name", FIELDS)
def test_sizes_and_times_are_told_in_words(name: str) -> None:
    """In words that the setting itself takes; no long row of digits is left."""
    setting = FIELDS[name]
    told, kind = settings_reference.in_words(setting), setting.metadata["kind"]
    assert not re.search("[0-9]{6}", told)
    if isinstance(kind, Size | Duration):
        assert kind.read(told) == setting.default
        assert re.search("[a-z]", told) or told == "0"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1, "0.1 seconds"), (1, "1 second"), (75, "75 seconds"), (60, "1 minute"),
     (90, "90 seconds"), (5400, "90 minutes"), (3600, "1 hour"), (86_400, "1 day"),
     (2_592_000, "30 days")],
)  # fmt: skip
def test_a_time_is_read_as_it_is_written(value: float, text: str) -> None:
    kind = Duration(0, 10**9, 3)
    assert kind.write(value) == text
    assert kind.read(text) == kind.check(text) == kind.check(value) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("30d", 2_592_000), ("1.5 h", 5400), ("90", 90), ("2.5", 2.5), (".5 s", 0.5), ("5 MIN", 300),
     ("", None), ("h", None), ("-1", None), ("1e3", None), ("5 weeks", None), ("1 h 5 min", None),
     ("0.0001 s", None), ("1_000", None), ("٣ s", None), ("1000 days", None)],
)  # fmt: skip
def test_times_have_the_usual_units(text: str, value: float | None) -> None:
    kind = Duration(0, 100 * 86_400, 3)
    if value is not None:
        assert kind.read(text) == value
    else:
        with pytest.raises((ValueError, KeyError)):
            kind.read(text)


def test_words_are_taken_wherever_settings_are_given(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text('max_age = "2 days"\nmax_source_bytes = "5 MiB"\n')
    environ = {"THUMBPROXY_KEYS": servers.KEY, "THUMBPROXY_FETCH_TIMEOUT": "1.5 s"}
    settings = Settings.load(file, environ, {"source_ttl": "10 min"})
    told = settings.max_age, settings.max_source_bytes, settings.fetch_timeout, settings.source_ttl
    assert told == (172_800, 5 * 2**20, 1.5, 600)


def claimed_defaults() -> Iterator[tuple[str, str, str]]:
    """Page, setting and default, wherever the text or a table of another page says one."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text, table = path.read_text(), ""
        if path.name == "configuration.md":
            continue
        for name, told in re.findall(r"`(\w+)`,? \(?([\w. ]{1,20}) by default", text):
            if name in FIELDS:
                yield path.name, name, told
        for line in text.splitlines():
            table = line if line.startswith("| setting | default |") else table
            row = re.match(r"\| `(\w+)` \| (\w+(?: \w+)?) \|", line)
            table = table if line.startswith("|") else ""
            if table and row and row[1] in FIELDS:
                yield path.name, row[1], row[2]


def test_other_pages_tell_the_same_defaults() -> None:
    claims = list(claimed_defaults())
    assert {name for _, name, _ in claims} >= {"max_age", "keep_alive", "cache_max_bytes"}
    for page, name, told in claims:
        assert FIELDS[name].metadata["kind"].read(told) == DEFAULTS[name], (page, name)


# -- docs/api.md -----------------------------------------------------------------------------


def test_the_page_of_the_api_is_up_to_date() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page(), "`make reference` renews it"


def test_the_page_has_all_that_the_package_offers() -> None:
    named = [name for names in api_reference.SECTIONS.values() for name in names]
    assert sorted(named) == sorted(thumbproxy.__all__)


@pytest.mark.parametrize("name", thumbproxy.__all__)
def test_what_is_offered_has_a_docstring_and_a_class_an_example(name: str) -> None:
    """Of its own, not inherited; test_snippets.py runs the examples of the page."""
    thing = getattr(thumbproxy, name)
    text = api_reference.described(thing)
    assert thing.__doc__
    if isinstance(thing, type):
        assert f"import {name}" in text or re.search(rf"import .*\b{name}\b", text)


def test_docstrings_become_lists_and_code() -> None:
    def documented() -> None:
        """A title.

        one       the first,
                  which goes on
        two, too  others
        Raises nothing; docs/urls.md has more.

        Example:

            if 1:
                print()
        """

    assert api_reference.described(documented) == (
        "A title.\n\n- `one`: the first, which goes on\n- `two`, `too`: others\n\n"
        "Raises nothing; [urls](urls.md) has more.\n\n"
        "```python\nif 1:\n    print()\n```\n"
    )


def test_the_keywords_of_the_middleware_are_the_settings() -> None:
    """`origins` is an argument of its own. That the types agree is in test_typing.py."""
    assert [*SettingKeywords.__annotations__] == [name for name in FIELDS if name != "origins"]
