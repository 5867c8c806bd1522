"""Medians, ratios and tables of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.figures import Goal, Spread, percentile
from benchmarks.report import markdown, plain, restructured

SAMPLES = {
    "ours": [{"mib_s": 300.0}, {"mib_s": 100.0}, {"mib_s": 200.0}],
    "theirs": [{"mib_s": 100.0}, {"mib_s": 50.0}, {"mib_s": 200.0}],
    "broken": [{"mib_s": 0.0}, {"mib_s": 0.0}, {"mib_s": 0.0}],
}
ROWS = [["receiver", "MiB/s"], ["ours", "300"]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2.0], "2.00"),
        ([2.001, 1.999], "2.00"),
        ([1.0, 3.0], "2.00 (1.00-3.00)"),
        ([3.0, 1.0, 2.5], "2.50 (1.00-3.00)"),
        ([1000.0, 2000.0, 4000.0], "2,000.00 (1,000.00-4,000.00)"),
    ],
)
def test_spread_is_median_least_and_greatest(values: list[float], shown: str) -> None:
    assert Spread.of(values).show() == shown


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (25, 1), (26, 2), (50, 2), (99, 4), (100, 4)]
)
def test_percentile_is_a_measured_value(percent: float, value: float) -> None:
    assert percentile([4, 2, 1, 3], percent) == value


@pytest.mark.parametrize(
    ("case", "over", "values"),
    [
        ("ours", "", [300, 100, 200]),
        ("ours", "theirs", [3, 2, 1]),
        ("ours", "missing", []),
        ("missing", "ours", []),
        ("ours", "broken", []),
    ],
)
def test_ratios_are_taken_repetition_by_repetition(
    case: str, over: str, values: list[float]
) -> None:
    assert Goal("mib_s", case, over).values(SAMPLES) == values


@pytest.mark.parametrize(
    ("at_least", "at_most", "verdict"),
    [
        (2.0, None, "met"),
        (2.01, None, "short"),
        (None, 2.0, "met"),
        (None, 1.99, "short"),
        (None, None, ""),
    ],
)
def test_verdict_is_on_the_median(
    at_least: float | None, at_most: float | None, verdict: str
) -> None:
    goal = Goal("mib_s", "ours", "theirs", at_least=at_least, at_most=at_most)
    assert goal.verdict([3, 2, 1]) == verdict
    assert goal.verdict([]) == ""


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (plain, "receiver  MiB/s\n--------  -----\nours      300"),
        (markdown, "| receiver | MiB/s |\n| --- | --- |\n| ours | 300 |"),
        (
            restructured,
            ".. list-table::\n   :header-rows: 1\n\n"
            "   * - receiver\n     - MiB/s\n   * - ours\n     - 300",
        ),
    ],
    ids=["plain", "markdown", "reST"],
)
def test_tables(markup: object, text: str) -> None:
    assert callable(markup)
    assert markup(ROWS) == text
