"""Eight clients at one upload: one winner for each byte, and nobody is stuck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.figures import figure, run_seed

from .herd import run_driver

#: Duels of the slow tier, half of them between threads and half between processes.
DUELS = figure("FAULTS_DUELS", 500, 10_000)
#: Duels of the sample in the fast tier.
SAMPLE = 20


@pytest.mark.parametrize("arena", ["threads", "processes"])
@pytest.mark.parametrize(
    "duels",
    [
        pytest.param(SAMPLE // 2, id="sample"),
        pytest.param(DUELS // 2, id="all", marks=pytest.mark.slow),
    ],
)
def test_one_client_wins_each_byte(tmp_path: Path, arena: str, duels: int) -> None:
    run_driver(
        "tests.faults.duels",
        tmp_path,
        arena,
        "--duels",
        duels,
        "--seed",
        run_seed(),
        timeout=60 + duels,
    )
