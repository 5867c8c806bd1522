"""Medians, spreads and ratios of repeated measurements; pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Figures of one repetition by name.
Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of several values."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int = 2) -> str:
        """``median (least-greatest)``; the median alone where it is all there is."""
        median, least, greatest = (
            f"{value:,.{digits}f}" for value in (self.median, self.least, self.greatest)
        )
        return median if least == greatest else f"{median} ({least}-{greatest})"


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Six digits: what is kept is then what is shown."""
    return {name: float(f"{value:.6g}") for name, value in figures.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many per cent of all do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that issue or documentation asks for.

    :param metric: name of a figure of the case.
    :param case: label of the case it is asked of.
    :param over: label of the case to divide by, repetition by repetition; empty: none.
    :param at_least: the median must not be below it.
    :param at_most: the median must not be above it.
    """

    metric: str
    case: str
    over: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """``>= 3.3`` or ``<= 50``; empty: no more than a comparison."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def values(self, samples: Mapping[str, Sequence[Sample]]) -> list[float]:
        """The figure or ratio of each repetition; empty where a case is missing."""
        mine = [sample[self.metric] for sample in samples.get(self.case, ())]
        if not self.over:
            return mine
        theirs = [sample[self.metric] for sample in samples.get(self.over, ())]
        return [a / b for a, b in zip(mine, theirs, strict=False) if b]

    def verdict(self, values: Sequence[float]) -> str:
        """``met``, ``short``, or nothing where nothing is asked or known."""
        if not values or not self.bound:
            return ""
        median = statistics.median(values)
        low = self.at_least is not None and median < self.at_least
        high = self.at_most is not None and median > self.at_most
        return "short" if low or high else "met"
