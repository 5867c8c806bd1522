"""The versions that ``pyproject.toml`` allows, ``nox`` runs and the README names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text())


def bounds() -> dict[str, tuple[int, ...]]:
    """Lower bound of each dependency."""
    (block,) = re.findall(r"^dependencies = \[\n(.*?)^\]", PYPROJECT, re.M | re.S)
    return {
        name: version(number)
        for name, number in re.findall(r'"([\w-]+)>=([\d.]+)', block)
    }


def version(text: str) -> tuple[int, ...]:
    """Three numbers."""
    numbers = [int(number) for number in text.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)))


def constant(name: str) -> object:
    """What the noxfile assigns to a name."""
    (value,) = (
        node.value
        for node in NOXFILE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return ast.literal_eval(value)


def test_oldest_versions_that_run_are_the_bounds() -> None:
    oldest = constant("OLDEST")
    assert isinstance(oldest, dict)
    assert {name: version(text) for name, text in oldest.items()} == bounds()


def test_oldest_python_that_runs_is_the_bound() -> None:
    pythons = constant("PYTHONS")
    assert isinstance(pythons, tuple)
    assert f'requires-python = ">={pythons[0]}"' in PYPROJECT


def test_readme_names_the_bounds() -> None:
    text = " ".join((ROOT / "README.rst").read_text().split())
    (sentence,) = re.findall(r"It needs Python (.+?),? or newer\.", text)
    named = {
        name.lower(): version(number)
        for name, number in re.findall(r"([\w-]+) ([\d.]+\d)", sentence)
    }
    of_ours = {name: number for name, number in bounds().items() if name in named}
    assert of_ours == {
        name: number for name, number in named.items() if name != "python"
    }
    assert {"flask", "werkzeug", "sqlalchemy"} <= set(of_ours)
