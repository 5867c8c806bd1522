"""The power goes at any moment: what was committed is there, and all goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures import figure, run_seed

from .herd import run_driver

#: States of the slow tier.
STATES = figure("POWER_STATES", 200_000, 5_000_000)
#: States of the sample in the fast tier.
SAMPLE = 1_000
DRIVER = "tests.faults.power_loss"


@pytest.mark.parametrize(
    ("states", "flags"),
    [
        pytest.param(SAMPLE, ("--sample",), id="sample"),
        pytest.param(STATES, (), id="all", marks=pytest.mark.slow),
    ],
)
def test_nothing_committed_is_lost(
    tmp_path: Path, states: int, flags: tuple[str, ...]
) -> None:
    run_driver(
        DRIVER,
        tmp_path,
        "--states",
        states,
        "--seed",
        run_seed(),
        *flags,
        timeout=120 + states / 1_000,
    )


def test_without_syncs_committed_bytes_are_seen_to_be_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-m", DRIVER, str(tmp_path), "--states", "500"]
    done = subprocess.run(
        [*command, "--sample", "--not-durable"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "has lost its file" in done.stdout
