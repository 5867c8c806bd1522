"""A benchmark as horizontal bars in SVG: medians, with the spread as a line."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.figures import Spread
from benchmarks.measure import Column, Measured, Plan

_LABELS, _BARS, _VALUES, _ROW = 210, 360, 170, 26
_OURS, _THEIRS, _SPREAD, _TEXT = "#2f6f9f", "#b9bec4", "#30363c", "#22272b"


def svg(plan: Plan, measured: Measured) -> str:
    """The plot of the plan's chosen figure."""
    column = plan.chart
    bars = [
        (
            case.label,
            not case.receiver.peer,
            Spread.of([sample[column.metric] for sample in samples]),
        )
        for case in plan.cases
        if (samples := measured.samples.get(case.label))
    ]
    width, height = _LABELS + _BARS + _VALUES, 52 + _ROW * len(bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="13" fill="{_TEXT}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(plan.title)}</text>',
        f'<text x="10" y="38">{escape(column.title)}, median and spread</text>',
        *_rows(bars, column),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _rows(bars: Sequence[tuple[str, bool, Spread]], column: Column) -> list[str]:
    most = max((spread.greatest for _, _, spread in bars), default=0.0) or 1.0
    lines = []
    for number, (label, is_ours, spread) in enumerate(bars):
        top = 48 + number * _ROW
        middle = top + _ROW / 2 - 2
        start, end, length = (
            value / most * _BARS
            for value in (spread.least, spread.greatest, spread.median)
        )
        colour = _OURS if is_ours else _THEIRS
        lines += [
            f'<text x="{_LABELS - 8}" y="{middle + 5:.0f}" text-anchor="end">'
            f"{escape(label)}</text>",
            f'<rect x="{_LABELS}" y="{top}" width="{length:.1f}" height="{_ROW - 6}" '
            f'fill="{colour}"/>',
            f'<path d="M{_LABELS + start:.1f} {middle}H{_LABELS + end:.1f}" '
            f'stroke="{_SPREAD}" stroke-width="2"/>',
            f'<text x="{_LABELS + _BARS + 8}" y="{middle + 5:.0f}">'
            f"{escape(spread.show(column.digits))}</text>",
        ]
    return lines
