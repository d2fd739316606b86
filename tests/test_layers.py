"""A module imports only from lines above its own; names on one line never import each other.

The table is that of docs/architecture.md. It is checked by reading the source, so that nothing
has to be installed or run for it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "thumbproxy"

# A name stands for the module, or for all modules of the folder, which may import each other.
LAYERS = """
    errors  forking  formats  lock_order  shortage  escapes  fetch_headers  spelling
    media  limits  kinds  hosts  heap  framing  http_dates  structured  memo  extras  suggest  uwsgi
    options  signing  cache_control  resources  connecting  stamps
    urls  freshness  conditional  tags  filepart  connections  setting_kinds  admission  metrics
    concurrency  access  presence  endpoints
    negotiate  responses  settings  thumbnails
    imaging  origins  caches  forwarding  cross_origin  sizing
    rendering
    renders  jobs
    fetching  records
    sources  cdn
    service
    purge
    wsgi  ops  playground  upstream  warm  explain  doctor
    health
    adapters
    build
    bodies  logs  metrics_files  listening  draining
    streams
    clients
    sending
    worker
    server
    cli
"""
LINES = [line.split() for line in LAYERS.strip().splitlines()]
LAYER = {name: number for number, line in enumerate(LINES) for name in line}

FAMILIES = {"imaging", "origins", "caches", "cdn", "rendering"}
# What the rest may know of a family. Adapters are chosen in one place, `build`.
CONTRACTS = {
    "imaging.base",
    "origins.base",
    "origins.mounts",
    "caches.base",
    "cdn.base",
    "rendering.base",
}

# The doors of the package: what they show is loaded when it is asked for.
DOORS = {"__init__", "__main__"}


def module_name(path: Path) -> str:
    """`imaging.base` for thumbproxy/imaging/base.py, `imaging` for its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of ours that are imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "thumbproxy":
                yield from _resolve(name)


def _resolve(name: str) -> Iterator[str]:
    """The longest part of a dotted name that is a module; a name of thumbproxy itself is none."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    if parts:
        yield ".".join(parts)


def read(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def spine() -> list[str]:
    return [name for name in MODULES if name not in DOORS]


IMPORTS = {name: sorted(set(imports(read(name)))) for name in spine()}


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def test_the_table_is_the_one_in_the_documentation() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    table = re.search(r"\n\n((?: {4}.+\n)+)", page[page.index("## Modules") :])
    assert table
    assert [line.replace("/", "").split() for line in table[1].splitlines()] == LINES


@pytest.mark.parametrize("name", spine())
def test_a_module_has_a_line_in_the_table(name: str) -> None:
    assert top(name) in LAYER, f"{name}: give it a line here and in docs/architecture.md"


@pytest.mark.parametrize("name", spine())
def test_a_module_imports_only_from_lines_above_its_own(name: str) -> None:
    for imported in IMPORTS[name]:
        if top(imported) != top(name):
            assert LAYER[top(imported)] < LAYER[top(name)], f"{name} imports {imported}"


@pytest.mark.parametrize(
    "name", [name for name in spine() if top(name) not in FAMILIES | {"adapters", "build"}]
)
def test_only_build_knows_the_adapters(name: str) -> None:
    for imported in IMPORTS[name]:
        if top(imported) in FAMILIES:
            assert imported in CONTRACTS, f"{name} imports {imported}"


def test_no_module_leads_back_to_itself() -> None:
    """Within the folders, where the table has no say."""
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in finished:
            for imported in IMPORTS[name]:
                visit(imported, (*path, name))
            finished.add(name)

    for name in IMPORTS:
        visit(name, ())


@pytest.mark.parametrize("name", spine())
def test_our_own_modules_are_imported_at_the_top(name: str) -> None:
    for node in ast.walk(read(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert not list(imports(node)), f"{name}, line {node.lineno}"
