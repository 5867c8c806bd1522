"""Quotas under eight clients in processes of their own, at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.herd import run_driver
from tests.figures import figure, run_seed
from tests.postgres import as_setting, new_database

#: What all clients do together.
ACTS = figure("GATE_QUOTA_ACTS", 600, 20_000)
CLIENTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 8], ids=["", "killed"])
@pytest.mark.parametrize("free", [False, True], ids=["limited", "free"])
@pytest.mark.parametrize("database", ["sqlite", "pg"])
def test_quotas_are_exact_at_every_moment(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: str,
    free: bool,
    kills: int,
) -> None:
    flags = ["--free"] if free else []
    if database == "pg":
        url = new_database(request.getfixturevalue("postgres"))
        flags += ["--database", as_setting(url)]
    run_driver(
        "tests.gate.quota_herd",
        tmp_path,
        *("--clients", CLIENTS, "--acts", max(1, ACTS // CLIENTS)),
        *("--kills", kills, "--seed", run_seed()),
        *flags,
        timeout=600 + 2 * ACTS,
    )
