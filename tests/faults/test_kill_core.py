"""kill -9 at random instants on the storage core: the figure is kills in total."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.figures import figure, run_seed
from tests.postgres import as_setting
from tests.s3 import S3Server

from .herd import run_driver

#: Kills of the slow tier, half of them with syncs and half without.
KILLS = figure("FAULTS_KILLS", 1_000, 20_000)
#: Kills on PostgreSQL.
KILLS_POSTGRESQL = figure("FAULTS_KILLS_POSTGRESQL", 300, 5_000)
#: Kills with the bytes in S3, on PostgreSQL.
KILLS_S3 = figure("FAULTS_KILLS_S3", 200, 5_000)
#: Kills of the sample in the fast tier.
SAMPLE = 25


def kill(directory: Path, kills: int, *flags: str) -> None:
    run_driver(
        "tests.faults.kill_core",
        directory,
        "--kills",
        kills,
        "--seed",
        run_seed(),
        *flags,
        timeout=60 + kills,
    )


@pytest.mark.parametrize(
    ("kills", "flags"),
    [
        pytest.param(SAMPLE, (), id="sample"),
        pytest.param(KILLS // 2, (), id="durable", marks=pytest.mark.slow),
        pytest.param(
            KILLS // 2, ("--not-durable",), id="not-durable", marks=pytest.mark.slow
        ),
    ],
)
def test_killed_writers_lose_nothing_that_was_acknowledged(
    disk_path: Path, kills: int, flags: tuple[str, ...]
) -> None:
    kill(disk_path, kills, *flags)


@pytest.mark.slow
def test_killed_writers_lose_nothing_on_postgresql(
    tmp_path: Path, postgres_database: URL
) -> None:
    kill(tmp_path, KILLS_POSTGRESQL, "--database", as_setting(postgres_database))


@pytest.mark.slow
def test_killed_writers_lose_nothing_on_s3(
    tmp_path: Path, postgres_database: URL, s3_server: S3Server
) -> None:
    database, options = as_setting(postgres_database), json.dumps(s3_server.options())
    kill(tmp_path, KILLS_S3, "--database", database, "--s3", options)
