"""The documentation is complete. (That what it shows can be run is in test_snippets.py.)"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from test_responses import all_errors
from test_urls import VECTORS

from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.core import errors
from thumbproxy.urls.options import OPTIONS

ROOT = Path(__file__).parent.parent
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables, by what stands in their first cell."""
    table = {}
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            table[cells[0].strip("`| ")] = [cell.strip() for cell in cells[1:]]
    return table


def test_every_option_is_documented_in_canonical_order() -> None:
    cells = r"^\| `(\w+)` \| `(\w+)(?:=[^`]*)?` \| .+ \| .+ \|$"
    documented = re.findall(cells, page("options.md"), re.M)
    assert documented == [(option.key, option.field) for option in OPTIONS.values()]


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_is_documented_with_its_default(setting: Any) -> None:
    default, meaning, allowed = rows(page("configuration.md"))[setting.name]
    kind, value = setting.metadata["kind"], setting.default
    if value is MISSING or value in ((), ""):
        assert default == "none"
    else:
        plain = default.replace(",", "") if isinstance(value, int) else default
        assert kind.read(plain) == value
    assert meaning == setting.metadata["meaning"]
    assert re.sub(r"(?<=\d),(?=\d)", "", allowed) == re.sub(r"(?<=\d),(?=\d)", "", kind.allowed)


def test_every_error_is_documented() -> None:
    documented = set(re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", page("serving.md"), re.M))
    raised = {(str(error.status), error.token) for error in all_errors(errors.ThumbproxyError)}
    assert documented == raised


def test_every_command_is_documented() -> None:
    for name in main.commands:
        assert f"`thumbproxy {name}" in page("serving.md")


def test_the_vectors_are_those_that_are_tested() -> None:
    for vector in VECTORS:
        assert "| " + " | ".join(f"`{part}`" for part in vector) + " |" in page("urls.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = r"\]\(([^)]+)\)|<img [^>]*src=\"([^\"]+)\""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in map("".join, re.findall(links, prose)):
        file, _, heading = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert heading in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ]


def test_the_files_that_contributors_are_led_to_exist() -> None:
    """And at most three of them are to be changed for each thing that can be added."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w./-]+(?:/|\.\w+))`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    recipes = re.findall(r"^### … (.+?)\n(.+?)(?=^#)", text, re.MULTILINE | re.DOTALL)
    assert [title for title, _ in recipes] == [
        "an option", "an image format", "an origin", "a cache tier"
    ]  # fmt: skip
    for title, recipe in recipes:
        assert len(re.findall(r"^\d\. ", recipe, re.MULTILINE)) == 3, title
