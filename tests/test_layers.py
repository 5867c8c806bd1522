"""Imports run downwards through the layers of docs/architecture.rst, and only so."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_chunked

PACKAGE = Path(__file__).parents[1] / "flask_chunked"

#: From the bottom up. A module may import from its own layer and from those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("exceptions",),
    ("protocol", "storage", "signals", "schemas", "cors"),
    ("engine",),
    ("models", "policy", "config"),
    ("database",),
    ("hook_calls",),
    ("policy_hooks",),
    ("registration",),
    ("request",),
    ("dialects",),
    ("findings",),
    ("error_answers", "routes", "expiration", "orphans"),
    ("maintenance", "cli_output"),
    ("cli",),
    ("blueprint",),
    ("testing",),
    ("__init__",),
)

#: The same inside folders, for their modules and folders.
INNER: dict[str, tuple[tuple[str, ...], ...]] = {
    "exceptions": (("base",), ("requests", "services", "uploads")),
    "storage": (
        ("os_errors", "place", "values"),
        ("base",),
        ("memory_stage", "local", "s3"),
        ("memory",),
    ),
    "storage.local": (
        ("files", "preallocation"),
        ("paths", "reader"),
        ("export", "inventory", "lock", "stage"),
        ("removal", "writer"),
        ("storage",),
    ),
    "storage.s3": (
        ("client", "errors", "plan", "spool"),
        ("bucket", "options", "part_thread"),
        ("reader",),
        ("layout",),
        ("writer",),
        ("storage",),
    ),
    "engine": (
        ("digest_thread", "digests", "splice", "states"),
        ("records",),
        ("ports",),
        ("byte_removal", "gate", "interruption", "members", "verification"),
        ("expiry", "writer"),
        ("atomic", "delivery", "remove", "stream"),
        ("complete",),
        ("append", "create"),
        ("declaration",),
        ("concatenate",),
        ("engine",),
    ),
    "models": (("mixin",), ("columns",), ("checks", "fields")),
    "config": (("values",), ("settings",)),
    "database": (
        ("refused_rows",),
        ("connections", "missing_tables", "pages", "rows", "sqlite", "statement_kinds"),
        ("session_guard", "table_definitions"),
        ("members", "parts", "removals", "transactions"),
        ("expiry_conditions", "quota_counts"),
        ("quota_rows", "statements"),
        ("queries", "quotas"),
        ("transitions",),
        ("deletions",),
        ("repository",),
    ),
    "request": (
        ("aborts", "buffers", "part_heads", "representation", "server_input"),
        ("multipart", "servers"),
        ("body",),
        ("shared_stream",),
        ("context", "form_parser"),
        ("fields", "parts"),
        ("forms",),
    ),
    "dialects": (
        ("base", "listing", "resources"),
        ("downloads",),
        ("content_range", "tus"),
    ),
    "dialects.content_range": (("chunks",), ("dialect",)),
    "testing": (("dialects",), ("uploads",)),
    "dialects.tus": (("checksum", "concat"), ("patch",), ("create",), ("dialect",)),
}
#: Folders of which none imports another.
APART = (
    {"dialects.content_range", "dialects.tus"},
    {"storage.local", "storage.s3"},
)

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports.

    What only type checkers read counts for modules of ours, not for other packages.
    """
    tree = ast.parse(path.read_text())
    for_types = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.dump(guard.test)
        for node in ast.walk(guard)
    }
    here = ("flask_chunked", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(tree):
        if id(node) in for_types and not (
            isinstance(node, ast.ImportFrom) and node.level
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = ".".join((*base, *(node.module or "").split(".")))
            yield from (
                f"{module}.{alias.name}".replace("..", ".") for alias in node.names
            )


def ours(path: Path) -> Iterator[str]:
    """First part, below the package, of what a module imports of ours."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "flask_chunked" and len(parts) > 1:
            yield parts[1]


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"flask_chunked"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    mine = RANK[layer_of(path)]
    above = {name for name in ours(path) if RANK.get(name, mine) > mine}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_imported_with_a_star(path: Path) -> None:
    assert not [name for name in imports(path) if name.endswith(".*")]


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in MODULES} == set(RANK)


@pytest.mark.parametrize(
    "module",
    ["flask_chunked", "flask_chunked.protocol.tus", "flask_chunked.engine.engine"],
)
def test_lower_layers_are_imported_without_a_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in found.stdout.split()}
    assert not loaded & {"flask", "werkzeug", "sqlalchemy", "marshmallow"}


def test_every_public_name_is_there() -> None:
    assert {name: getattr(flask_chunked, name) for name in flask_chunked.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flask_chunked.nothing  # noqa: B018
    assert set(flask_chunked.__all__) <= set(dir(flask_chunked))


def in_folder(folder: str, name: str) -> str | None:
    """The part of a module's name below a folder; ``None``: it is not in there."""
    prefix = f"flask_chunked.{folder}."
    return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("folder", INNER)
def test_imports_run_downwards_inside_folders(folder: str) -> None:
    rank = {name: n for n, names in enumerate(INNER[folder]) for name in names}
    for path in below(folder.replace(".", "/")):
        mine = in_folder(folder, dotted(path))
        if mine == "__init__" or mine is None:
            continue
        used = {in_folder(folder, name) for name in imports(path)} - {None, mine}
        above = {name for name in used if rank.get(str(name), -1) > rank[mine]}
        assert not above, f"{path.name} imports {above}"


@pytest.mark.parametrize("folder", INNER)
def test_every_module_of_a_folder_has_a_rank(folder: str) -> None:
    found = {
        str(in_folder(folder, dotted(path))) for path in below(folder.replace(".", "/"))
    }
    ranked = {name for names in INNER[folder] for name in names}
    assert found - {"__init__"} == ranked


def test_folders_that_stand_apart_do_not_import_one_another() -> None:
    for apart in APART:
        for folder in apart:
            others = tuple(f"flask_chunked.{other}" for other in apart - {folder})
            for path in below(folder.replace(".", "/")):
                used = [name for name in imports(path) if name.startswith(others)]
                assert not used, f"{path} imports {used}"


def test_no_import_circle() -> None:
    names = {dotted(path).removesuffix(".__init__"): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        used = set()
        for target in imports(path):
            while target not in names and "." in target:
                target = target.rpartition(".")[0]
            used.add(target)
        graph[name] = (used & set(names)) - {name, "flask_chunked"}
    while leaves := [name for name, used in graph.items() if not used]:
        for leaf in leaves:
            del graph[leaf]
        for used in graph.values():
            used.difference_update(leaves)
    # The package itself hands names of all others on.
    assert graph == {}


def below(directory: str) -> list[Path]:
    return sorted((PACKAGE / directory).rglob("*.py"))


@pytest.mark.parametrize("path", below("protocol"), ids=lambda p: p.stem)
def test_codecs_are_pure(path: Path) -> None:
    assert foreign(path) <= set(sys.stdlib_module_names) | {"http_sf"}
    assert set(ours(path)) <= {"exceptions", "protocol"}


@pytest.mark.parametrize("path", below("engine"), ids=lambda p: p.stem)
def test_the_engine_knows_no_framework(path: Path) -> None:
    assert foreign(path) <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", below("storage"), ids=lambda p: p.stem)
def test_storages_know_only_their_port_and_errors(path: Path) -> None:
    assert set(ours(path)) <= {"exceptions", "storage"}
