"""Model and server agree, whatever is asked of them and in whatever order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.figures import figure, run_seed, size
from tests.gate.driver import run
from tests.places import DATABASE, STORAGE

#: Place of rows and bytes -> seeds of the slow tier, and of a release.
_SEEDS = {"sqlite": (60, 500), "postgresql": (5, 50), "s3": (2, 20)}
_PLACE = "s3" if os.environ.get(STORAGE) == "s3" else os.environ.get(DATABASE, "sqlite")
SEEDS = figure("GATE_SEEDS", *_SEEDS[_PLACE])
STEPS = size("GATE_STEPS", 400, 400)
#: Of the fast tier.
FAST_SEEDS = 1
#: Seeds of one test, so that tests can run in several processes.
BLOCK = 5 if _PLACE == "sqlite" else 1


def _run_all(tmp_path: Path, first: int, count: int) -> None:
    seed = run_seed()
    for number in range(first, first + count):
        run(seed + number, tmp_path / str(number), STEPS)


def test_the_server_is_the_model(tmp_path: Path) -> None:
    _run_all(tmp_path, 0, min(FAST_SEEDS, SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_the_server_is_the_model_in_every_order(tmp_path: Path, first: int) -> None:
    _run_all(tmp_path, first, min(BLOCK, SEEDS - first))
