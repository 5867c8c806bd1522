"""kill -9 once at every step of every operation; what is listed is what is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.postgres import as_setting

from .herd import run_driver
from .operations import OPERATIONS

#: Seconds that one operation may take.
TIMEOUT = 120


def test_kill_at_one_step_of_each_operation_and_none_that_is_not_listed(
    tmp_path: Path,
) -> None:
    run_driver("tests.faults.kill_steps", tmp_path, "--sample", 1, timeout=TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_kill_at_every_step(tmp_path: Path, name: str) -> None:
    kill_at_every_step(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_kill_at_every_step_on_postgresql(
    tmp_path: Path, name: str, postgres_database: URL
) -> None:
    kill_at_every_step(tmp_path, name, "--database", as_setting(postgres_database))


def kill_at_every_step(directory: Path, name: str, *flags: str) -> None:
    output = run_driver(
        "tests.faults.kill_steps", directory, "--only", name, *flags, timeout=TIMEOUT
    )
    killed, total = output.partition("killed at ")[2].split(" steps")[0].split(" of ")
    assert int(killed) == int(total) > 0
