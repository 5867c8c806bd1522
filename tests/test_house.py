"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "flask_chunked").rglob("*.py"))
SOURCES = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py"))]
SOURCES += sorted((ROOT / "examples").rglob("*.py"))

#: Hosts of package registries (clients find them by themselves) and places of one
#: machine. In pieces, so that this file does not hold them.
FORBIDDEN = tuple(
    re.compile(words.replace("~", ""))
    for words in (
        r"pypi~\.org",
        r"pythonhosted~\.org",
        r"npmjs~\.(?:org|com)",
        r"deb~\.debian\.org",
        r"crates~\.io",
        r"(?<![\w.])/wo~rk/",
        r"(?<![\w.])/tmp~/v/",
        r"/ro~ot/",
        r"(?<![\w/.])sha~red/\w",
    )
)

#: Ratchets, which only fall: lines of a module, lines of a function without its
#: docstring, parameters without ``self``.
LONGEST, LONGEST_FUNCTION, MOST_PARAMETERS = 350, 50, 6
#: Modules without a test file of their name (``tests/<folder>/test_<module>.py``), each
#: with the reason. The list only gets shorter.
UNMIRRORED: dict[str, str] = {}
#: Words that hide the actor or the place of a sentence (in pieces, as above).
VAGUE = re.compile(
    r"\b(who~ever|no~body|some~body|le~st|be~side|be~hind)\b".replace("~", ""), re.I
)
#: Where one of them is the field's term: what stands before a server.
BEFORE_A_SERVER = re.compile(
    r"be~hind (?:(?:a|an|the|your|its|one|two|several) )?`*"
    r"(?:prox(?:y|ies)|nginx|load balancer|CDN|HAProxy|Apache)".replace("~", ""),
    re.I,
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    """The module's tree, which several rules look at."""
    return ast.parse(path.read_text())


def tracked() -> list[Path]:
    """Files of the repository; of the directory, where there is no repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        return [*SOURCES, *ROOT.glob("*.*"), *(ROOT / "docs").iterdir()]
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def is_read_without_size(node: ast.AST) -> bool:
    """``x.read()``, ``x.read(-1)`` or ``x.read(None)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr not in ("read", "readall", "getvalue"):
        return False
    sizes = [*node.args, *(keyword.value for keyword in node.keywords)]
    return all(ast.unparse(size) in ("-1", "None") for size in sizes)


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_nothing_is_read_without_a_size(path: Path) -> None:
    nodes = ast.walk(tree_of(path))
    # The port of the engine reads one block of its own size.
    unbounded = [
        ast.unparse(node)
        for node in nodes
        if is_read_without_size(node) and ast.unparse(node) not in BLOCKS
    ]
    assert unbounded == []


#: Readers whose ``read()`` returns at most one block (``engine.ports.Reader``).
BLOCKS = ("reader.read()", "self.read()")


@pytest.mark.parametrize(
    "text", ["f.read()", "f.read(-1)", "f.read(size=None)", "f.getvalue()"]
)
def test_unbounded_reads_are_found(text: str) -> None:
    assert any(map(is_read_without_size, ast.walk(ast.parse(text))))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_opens_with_a_docstring_and_the_future(path: Path) -> None:
    tree = tree_of(path)
    if not tree.body:
        return
    assert ast.get_docstring(tree), "no docstring"
    rest = tree.body[1:]
    if path.name == "__init__.py" or not rest:
        return
    assert ast.unparse(rest[0]) == "from __future__ import annotations"


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_module_is_not_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(tree_of(path))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in nodes if isinstance(node, kinds)]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    found = [
        (function.name, lines_of(function), parameters_of(function))
        for function in functions(path)
    ]
    assert not [one for one in found if one[1] > LONGEST_FUNCTION]
    assert not [one for one in found if one[2] > MOST_PARAMETERS]


def holds_tests(path: Path) -> bool:
    """True if pytest finds a test in the file."""
    if not path.is_file():
        return False
    tests = (ast.FunctionDef, ast.ClassDef)
    return any(
        isinstance(node, tests) and node.name.lower().startswith("test")
        for node in tree_of(path).body
    )


def test_each_module_has_a_test_file_of_its_name() -> None:
    missing = set()
    for path in PACKAGE:
        inside = path.relative_to(ROOT / "flask_chunked")
        mirror = ROOT / "tests" / inside.with_name(f"test_{path.name}")
        if path.name != "__init__.py" and not holds_tests(mirror):
            missing.add(name_of(path))
    assert missing == set(UNMIRRORED)


def test_sentences_name_who_acts_and_where() -> None:
    texts = [*PACKAGE, *(ROOT / "docs").glob("*.rst"), ROOT / "README.rst"]
    texts += [*(ROOT / "flask_chunked/static").glob("*.js"), ROOT / "CHANGELOG.md"]
    found = [
        f"{name_of(path)}: {line.strip()}"
        for path in texts
        for line in path.read_text().splitlines()
        if VAGUE.search(BEFORE_A_SERVER.sub("", line))
    ]
    assert found == []


def test_no_registry_and_no_machine_is_named() -> None:
    found = []
    for path in tracked():
        if path.suffix in (".png", ".ico") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        found += [
            f"{name_of(path)}: {match[0]}"
            for pattern in FORBIDDEN
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_werkzeug_is_one_that_keeps_the_bytes_of_forms() -> None:
    # Its decoder put CR LF before a file whose first byte came late, up to 3.1.6.
    text = (ROOT / "pyproject.toml").read_text()
    (bound,) = re.findall(r'"werkzeug>=([\d.]+)"', text)
    assert tuple(map(int, bound.split("."))) >= (3, 1, 7)
