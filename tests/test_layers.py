"""The shape of the package: which parts there are, and who may import whom.

The table is that of docs/architecture.md. It is checked by reading the source, so that nothing
has to be installed or run for it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "thumbproxy"

# A package imports only from packages on lines above its own; those on one line are strangers.
LAYERS = """
    core
    urls  telemetry
    http  scheduling
    config
    imaging  origins  caches
    rendering  purging
    service
    web
    server
    assembly
    explain  doctor  warm  demo
    cli
"""
LINES = [line.split() for line in LAYERS.strip().splitlines()]
LAYER = {name: number for number, line in enumerate(LINES) for name in line}

# Packages with several implementations of a contract, and the modules that others may know of
# them. Which implementations there are, `assembly` alone knows.
CONTRACTS = {
    "imaging": {"imaging.base"},
    "origins": {"origins.base", "origins.mounts"},
    "caches": {"caches.base", "caches.purge_log"},
    "rendering": {"rendering.base"},
    "purging.cdn": {"purging.cdn.base"},
}
# They are tools for operators, and look into the parts on purpose.
INSPECTORS = {"assembly", "doctor", "explain"}
# Configuration becomes plain values here; nothing below knows of it.
READ_SETTINGS = {"config", "assembly", "cli", "doctor", "explain", "server"}
# Third-party packages, and who alone imports them.
OWNERS = {
    "PIL": {"imaging", "demo", "rendering", "doctor"},
    "simplejpeg": {"imaging"},
    "pillow_avif": {"imaging", "doctor"},
    "numpy": {"imaging", "demo", "rendering"},
    "gunicorn": {"server", "cli"},
    "pylibmc": {"caches.memcached"},
    "requests": {"origins.network", "purging.cdn", "http", "warm", "web"},
    "prometheus_client": {"telemetry", "server", "web"},
    "click": {"cli"},
    "rich": {"warm", "cli"},
    "idna": {"urls"},
}
TOP = {"__init__", "__main__", "_version"}


def module_name(path: Path) -> str:
    """`imaging.base` for thumbproxy/imaging/base.py, `imaging` for its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of all that is imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(tree: ast.AST) -> set[str]:
    """The modules of this package among them."""
    found = set()
    for name in imported(tree):
        parts = name.split(".")
        if parts.pop(0) == "thumbproxy":
            while parts and ".".join(parts) not in modules():
                parts.pop()
            if parts:
                found.add(".".join(parts))
    return found


@cache
def imports() -> dict[str, set[str]]:
    return {name: ours(tree) for name, tree in modules().items() if name not in TOP}


def edges() -> list[tuple[str, str]]:
    return [(name, other) for name, others in imports().items() for other in sorted(others)]


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def package(name: str) -> str:
    return name.partition(".")[0]


def test_the_top_of_the_package_is_its_doors_and_its_parts() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts == LAYER.keys()


def test_the_table_is_the_one_in_the_documentation() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    table = re.search(r"\n\n((?: {4}.+\n)+)", page[page.index("## Modules") :])
    assert table
    assert [line.split() for line in table[1].splitlines()] == LINES


def test_imports_point_to_lines_above() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in edges()
        if package(name) != package(other)
        and other not in TOP
        and LAYER[package(other)] >= LAYER[package(name)]
    ]
    assert not wrong


def test_only_assembly_knows_which_implementations_there_are() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in edges()
        for family, contract in CONTRACTS.items()
        if within(other, {family})
        and other not in contract
        and not within(name, {family, *INSPECTORS})
    ]
    assert not wrong


def test_only_the_edge_reads_settings() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in edges()
        if within(other, {"config"}) and not within(name, READ_SETTINGS)
    ]
    assert not wrong


def test_no_module_leads_back_to_itself() -> None:
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in finished:
            for other in sorted(imports().get(name, ())):
                visit(other, (*path, name))
            finished.add(name)

    for name in imports():
        visit(name, ())


def test_our_own_modules_are_imported_at_the_top() -> None:
    wrong = [
        f"{name}, line {node.lineno}"
        for name, tree in modules().items()
        if name not in TOP
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and ours(node)
    ]
    assert not wrong


def test_each_library_has_its_owners() -> None:
    known = {*OWNERS, "thumbproxy", "werkzeug", "urllib3", "_typeshed", *sys.stdlib_module_names}
    wrong = set()
    for name, tree in modules().items():
        for full in imported(tree):
            library = full.partition(".")[0]
            assert library in known, f"{name} imports {full}: who is to own it?"
            if library in OWNERS and not within(name, OWNERS[library]):
                wrong.add(f"{name} imports {library}")
    assert not wrong
