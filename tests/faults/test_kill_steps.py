"""kill -9 once at every step of every operation; what is listed is what is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.postgres import as_setting

from .gate_operations import ALL
from .herd import run_driver

#: Seconds that one operation may take.
TIMEOUT = 120
#: A driver takes a second or two to start: one for several operations.
GROUPS = [list(ALL)[first::6] for first in range(6)]


def test_kill_at_one_step_of_each_operation_and_none_that_is_not_listed(
    tmp_path: Path,
) -> None:
    run_driver("tests.faults.kill_steps", tmp_path, "--sample", 1, timeout=TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS, ids="+".join)
def test_kill_at_every_step(tmp_path: Path, names: list[str]) -> None:
    kill_at_every_step(tmp_path, names)


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS, ids="+".join)
def test_kill_at_every_step_on_postgresql(
    tmp_path: Path, names: list[str], postgres_database: URL
) -> None:
    kill_at_every_step(tmp_path, names, "--database", as_setting(postgres_database))


def kill_at_every_step(directory: Path, names: list[str], *flags: str) -> None:
    chosen = [text for name in names for text in ("--only", name)]
    output = run_driver(
        "tests.faults.kill_steps",
        directory,
        *chosen,
        *flags,
        timeout=TIMEOUT * len(names),
    )
    for name in names:
        said = output.partition(f"{name}: killed at ")[2].partition(" steps")[0]
        killed, total = said.split(" of ")
        assert int(killed) == int(total) > 0, name
