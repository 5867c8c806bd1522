"""The suite has power: whoever breaks a promise is found out."""

from __future__ import annotations

import pytest

from .breaks import BREAKS
from .herd import run_driver
from .mutants import MUTANTS, ROOT

#: Seconds that one mutant may take.
TIMEOUT = 120


def test_there_are_twelve_and_all_have_their_place() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == 12
    assert len({mutant.name for mutant in BREAKS}) == len(BREAKS)
    for mutant in (*MUTANTS, *BREAKS):
        for change in mutant.changes:
            text = (ROOT / "flask_chunked" / change.module).read_text()
            assert text.count(change.old) == 1, (mutant.name, change.module)


@pytest.mark.slow
def test_tests_pass_without_a_mutant() -> None:
    run_driver("tests.faults.mutants", "--healthy", timeout=3 * TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_mutant_is_killed(name: str) -> None:
    run_driver("tests.faults.mutants", name, "--believe", timeout=TIMEOUT)
