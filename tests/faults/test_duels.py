"""Eight clients at one upload: one winner for each byte, and nobody is stuck."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .herd import run_driver

#: Duels of the slow tier, half of them between threads and half between processes.
DUELS = int(os.environ.get("FAULTS_DUELS", "500"))
#: Duels of the sample in the fast tier.
SAMPLE = 20
#: Of a run that is to be repeated; else each run draws and prints its own.
SEED = os.environ.get("FAULTS_SEED")


@pytest.mark.parametrize("arena", ["threads", "processes"])
@pytest.mark.parametrize(
    "duels",
    [
        pytest.param(SAMPLE // 2, id="sample"),
        pytest.param(DUELS // 2, id="all", marks=pytest.mark.slow),
    ],
)
def test_one_client_wins_each_byte(tmp_path: Path, arena: str, duels: int) -> None:
    seed = () if SEED is None else ("--seed", SEED)
    run_driver(
        "tests.faults.duels",
        tmp_path,
        arena,
        "--duels",
        duels,
        *seed,
        timeout=60 + duels,
    )
