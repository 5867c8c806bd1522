"""README and pages as trees: their tables, code and sections, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import docutils.core
from docutils import nodes

ROOT = Path(__file__).parents[1]
README = ROOT / "README.rst"
TUS = ROOT / "docs/tus.rst"
PAGES = (
    README,
    *sorted((ROOT / "docs").glob("*.rst")),
    *sorted((ROOT / "examples").glob("*/*.rst")),
)

Table = list[list[str]]


@cache
def parse(page: Path) -> nodes.document:
    """The page's tree; a warning of the parser is an error."""
    document: nodes.document = docutils.core.publish_doctree(
        page.read_text(), settings_overrides={"halt_level": 2, "report_level": 2}
    )
    return document


def section(page: Path, title: str) -> nodes.Element:
    """The section with this title, subsections included."""
    document = parse(page)
    named = [n for n in document.findall(nodes.section) if n[0].astext() == title]
    # A page that has one section only is that section.
    if not named and document[0].astext() == title:
        return document
    (found,) = named
    return found


def tables(element: nodes.Element) -> list[Table]:
    """Rows of cells as text, the heads included."""
    return [
        [[cell.astext() for cell in row.children] for row in table.findall(nodes.row)]
        for table in element.findall(nodes.table)
    ]


def code(element: nodes.Element, language: str = "python") -> list[str]:
    """The blocks of code in one language; ``""``: the plain ones."""
    wanted = ["code", language] if language else []
    return [
        block.astext()
        for block in element.findall(nodes.literal_block)
        if block["classes"] == wanted
    ]


def literals(element: nodes.Node) -> Iterator[str]:
    """Everything between double backquotes."""
    for literal in element.findall(nodes.literal):
        yield literal.astext()
