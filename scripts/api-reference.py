"""Makes docs/api.md from the docstrings of what `import thumbproxy` offers.

`make reference` runs it; tests/test_docs_reference.py says when it has to be run.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, is_typeddict

import thumbproxy
from thumbproxy.origins.base import Origin

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Building URLs": (
        "Thumbnails",
        "Options",
        "OptionKeywords",
        "remote_source",
        "Signer",
        "Limits",
    ),
    "Serving": ("ThumbProxy", "SettingKeywords", "application"),
    "Origins": ("Folder", "HttpOrigin", "RemoteOrigin", "WsgiOrigin"),
    "Purging": ("PurgeResult", "Scope"),
    "Errors": ("ThumbproxyError", "BadOptions", "BadSource", "SettingsError"),
}
_HEAD = """\
# The Python API

All of it is imported from `thumbproxy` itself: `from thumbproxy import Thumbnails`. What else is in
the package may change with any release. The annotations are for mypy and other type checkers
(`py.typed`).

This page is made from docstrings; `make reference` renews it. In its examples, `app` is a WSGI
application, and `thumbs` are the `Thumbnails` of the first one.
"""
# How origins are asked, which nobody calls from outside.
_INTERNAL = {name for name in vars(Origin) if not name.startswith("_")}
_WIDTH = 100
# An entry of a list: a name or several, two spaces at least, what it is.
_ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*)  +(?P<text>\S.*)")
_EXAMPLE = "Example:"


def page() -> str:
    """The text that docs/api.md should have."""
    parts = [_HEAD]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_about(name, getattr(thumbproxy, name)) for name in names]
    return "\n".join(parts)


def _about(name: str, thing: Any) -> str:
    parts = [f"### {name}\n", _code("py", _signature(name, thing)), described(thing)]
    for member, value in _members(thing):
        parts.append(f"#### {name}.{member}\n")
        if callable(value):
            parts.append(_code("py", _signature(f"{name}.{member}", value)))
        parts.append(described(value))
    return "\n".join(parts)


def _members(thing: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class has itself and that have a docstring."""
    own = vars(thing) if isinstance(thing, type) and not is_typeddict(thing) else {}
    for name in own:
        value = own[name] if isinstance(own[name], property) else getattr(thing, name)
        is_member = isinstance(value, property) or inspect.isroutine(value)
        if is_member and not name.startswith("_") and name not in _INTERNAL and value.__doc__:
            yield name, value


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _signature(name: str, thing: Any) -> str:
    """As one calls it, with the types of what is given and comes out."""
    if is_typeddict(thing):
        lines = [
            f"    {key}: {kind.__forward_arg__}" for key, kind in thing.__annotations__.items()
        ]
        return "\n".join([f"class {name}(TypedDict, total=False):", *lines])
    told = inspect.signature(thing)
    parameters = [p for p in told.parameters.values() if p.name not in ("self", "cls")]
    texts = list(_parameters(parameters))
    result = "" if isinstance(thing, type) else f" -> {told.return_annotation}"
    line = f"{name}({', '.join(texts)}){result}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in texts), f"){result}"])


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = parameter.default
        given = "" if default is parameter.empty else f" = {_value(default)}"
        yield f"{stars}{parameter.name}: {parameter.annotation}{given}"


def _value(default: Any) -> str:
    """As it would be written: what has many fields is made without any."""
    if type(default).__module__.startswith("thumbproxy"):
        return f"{type(default).__name__}()"
    if type(default) is int:
        return f"{default:_}"
    return "{}" if repr(default) == "<factory>" else repr(default).replace("'", '"')


def described(thing: Any) -> str:
    """A docstring as Markdown: its lists as lists, its example as code."""
    text = inspect.getdoc(thing) or ""
    prose, _, example = text.partition(f"{_EXAMPLE}\n\n")
    parts = ["\n".join(_paragraph(part)) + "\n" for part in prose.strip().split("\n\n")]
    if example:
        parts.append(_code("python", textwrap.dedent(example).strip()))
    return "\n".join(parts)


def _paragraph(text: str) -> Iterator[str]:
    """Its lines; those of a list as items, each in one line."""
    item = ""
    for line in text.splitlines():
        entry = _ENTRY.fullmatch(line)
        if item and line.startswith("   "):
            item += " " + line.strip()
            continue
        if item:
            yield item if entry else f"{item}\n"
        names = "`, `".join(entry["names"].split(", ")) if entry else ""
        item = f"- `{names}`: {entry['text']}" if entry else ""
        if not entry:
            yield re.sub(r"\bdocs/(\w+)\.md\b", r"[\1](\1.md)", line)
    if item:
        yield item


if __name__ == "__main__":
    PAGE.write_text(page())
