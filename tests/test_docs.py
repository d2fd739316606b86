"""The documentation: complete, and its examples run."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from test_responses import all_errors
from test_urls import VECTORS

from thumbproxy import errors
from thumbproxy.cli import main
from thumbproxy.options import OPTIONS
from thumbproxy.setting_kinds import EXAMPLE_KEYS
from thumbproxy.settings import Settings

ROOT = Path(__file__).parent.parent
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")]
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
    value = setting.default
    if value is MISSING or value in ((), ""):
        expected = "none"
    elif isinstance(value, bool):
        expected = str(value).lower()
    else:
        expected = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert default == expected
    assert meaning == setting.metadata["meaning"]
    assert allowed == setting.metadata["kind"].allowed


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
    for target in map("".join, re.findall(links, path.read_text())):
        file, _, heading = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert heading in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ]


def examples() -> list[Any]:
    found = []
    for path in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S)):
            found.append(pytest.param(code, id=f"{path.name}-{number}"))
    return found


@pytest.mark.parametrize("code", examples())
def test_examples_in_python_run(code: str, tmp_path: Path) -> None:
    """As they stand, but with a key that protects and a cache that may be written."""
    from thumbproxy import Thumbnails, ThumbProxy  # noqa: PLC0415 - names that examples assume

    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    lines = code.replace("/var/cache/thumbproxy", str(tmp_path)).replace(
        "/srv/media", str(tmp_path)
    )
    for key in EXAMPLE_KEYS if "ThumbProxy(" in code else ():
        lines = lines.replace(key, "a-key-that-only-the-tests-use")
    thumbs = Thumbnails(keys=["your signing key"])
    names = {"__name__": "__main__", "app": app, "application": app, "thumbs": thumbs,
             "Thumbnails": Thumbnails, "ThumbProxy": ThumbProxy}  # fmt: skip
    exec(compile(lines, "example", "exec"), names)


def test_the_url_in_the_readme_is_the_one_that_its_example_builds() -> None:
    text = (ROOT / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    names: dict[str, Any] = {}
    call, _, comment = code.rpartition("# ")
    exec(compile(call.replace("thumbs.url(", "url = thumbs.url("), "example", "exec"), names)
    assert names["url"] == comment.strip()


def test_example_keys_are_refused_by_servers() -> None:
    keys = set()
    for path in PAGES:
        keys |= set(re.findall(r'keys ?= ?\["([^"]+)"\]', path.read_text()))
    assert keys <= EXAMPLE_KEYS
    assert len(keys) >= 2
