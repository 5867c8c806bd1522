"""Eight clients at one upload: one winner for each byte, and nobody is stuck."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.figures import figure, run_seed
from tests.postgres import as_setting
from tests.s3 import S3Server

from .herd import run_driver

#: Duels of the slow tier, half of them between threads and half between processes.
DUELS = figure("FAULTS_DUELS", 300, 10_000)
#: Duels with the bytes in S3, on PostgreSQL.
DUELS_S3 = figure("FAULTS_DUELS_S3", 40, 1_000)
#: The same over uploads that have parts.
LONG_DUELS_S3 = figure("FAULTS_LONG_DUELS_S3", 5, 50)
#: Duels of the sample in the fast tier.
SAMPLE = 12


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("duels", "flags"),
    [
        pytest.param(DUELS_S3, (), id="below-a-part"),
        pytest.param(LONG_DUELS_S3, ("--long",), id="over-parts"),
    ],
)
def test_one_client_wins_each_byte_on_s3(
    tmp_path: Path,
    postgres_database: URL,
    s3_server: S3Server,
    duels: int,
    flags: tuple[str, ...],
) -> None:
    run_driver(
        "tests.faults.duels",
        tmp_path,
        "processes",
        *("--duels", duels, "--seed", run_seed()),
        *flags,
        *("--database", as_setting(postgres_database)),
        *("--s3", json.dumps(s3_server.options())),
        timeout=60 + 10 * duels,
    )
