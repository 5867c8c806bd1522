"""The power goes under the whole stack: files and SQLite on a disk that forgets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures import figure, run_seed

from .herd import run_driver

pytestmark = pytest.mark.slow

CUTS = figure("POWER_CUTS", 20, 500)
#: Cuts without syncs, most of which must be seen to lose something.
UNSYNCED = 10
DRIVER = "tests.faults.blackout"


@pytest.fixture(autouse=True)
def fuse() -> None:
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("mfusepy is not installed (the extra faults)")
    if shutil.which("fusermount3") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("FUSE cannot be had here (Debian: fuse3, and /dev/fuse)")


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    run_driver(
        DRIVER, tmp_path, "--cuts", CUTS, "--seed", run_seed(), timeout=120 + 5 * CUTS
    )


def test_without_syncs_it_is_seen_to_be_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-m", DRIVER, str(tmp_path), "--cuts", str(UNSYNCED)]
    done = subprocess.run(
        [*command, "--not-durable", "--seed", str(run_seed())],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (lost,) = (line for line in done.stdout.splitlines() if "lost something" in line)
    assert int(lost.rsplit(" ", 3)[1]) >= UNSYNCED // 2, done.stdout
