"""Results as JSON and as tables: plain text, reStructuredText, Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.figures import Goal, Spread, rounded
from benchmarks.measure import Measured, Plan

Rows = list[list[str]]


def figures_table(plan: Plan, measured: Measured) -> Rows:
    """Head and rows: a case each, medians with their spread."""
    rows = [["receiver", *(column.title for column in plan.columns)]]
    for case in plan.cases:
        samples = measured.samples.get(case.label)
        if samples:
            cells = [
                Spread.of([sample[column.metric] for sample in samples]).show(
                    column.digits
                )
                for column in plan.columns
            ]
            rows.append([case.label, *cells])
    return rows


def goals_table(plan: Plan, measured: Measured) -> Rows:
    """Head and rows: figures asked for and ratios by repetition."""
    rows = [["figure", "of", "over", "measured", "asked", ""]]
    for goal in plan.goals:
        values = goal.values(measured.samples)
        if values:
            shown = Spread.of(values).show(2)
            verdict = goal.verdict(values)
            over = goal.over or "-"
            rows.append(
                [goal.metric, goal.case, over, shown, goal.bound or "-", verdict or "-"]
            )
    return rows if len(rows) > 1 else []


def words(measured: Measured) -> list[str]:
    """One line for each case without figures."""
    lines = [f"left out: {label}: {why}" for label, why in measured.left_out.items()]
    return lines + [f"FAILED: {label}: {why}" for label, why in measured.failed.items()]


def plain(rows: Rows) -> str:
    """Aligned columns."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Rows) -> str:
    """A pipe table."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def restructured(rows: Rows) -> str:
    """A list-table."""
    if not rows:
        return ""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for number, cell in enumerate(row):
            lines.append(f"   {'-' if number else '* -'} {cell}".rstrip())
            if number:
                lines[-1] = "  " + lines[-1]
    return "\n".join(lines)


def document(plan: Plan, measured: Measured, suffix: str) -> str:
    """All of a benchmark in the markup of a file suffix; plain text for others."""
    markup = {".md": markdown, ".rst": restructured}.get(suffix, plain)
    parts = [
        plan.title,
        markup(figures_table(plan, measured)),
        markup(goals_table(plan, measured)),
        "\n".join(words(measured)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(
    name: str,
    plan: Plan,
    measured: Measured,
    *,
    settings: Mapping[str, object],
    machine: Mapping[str, object],
    versions: Mapping[str, str],
) -> dict[str, object]:
    """Everything: each repetition, summaries, ratios, and where it was measured."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return {
        "benchmark": name,
        "title": plan.title,
        "date": now.isoformat(),
        "machine": dict(machine),
        "versions": dict(versions),
        "settings": dict(settings),
        "cases": {
            label: {"repetitions": samples} | {"summary": _summary(samples)}
            for label, samples in measured.samples.items()
        },
        "goals": [_goal(goal, measured) for goal in plan.goals],
        "left_out": measured.left_out,
        "failed": measured.failed,
    }


def write_json(path: Path, result: Mapping[str, object]) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> tuple[dict[str, Any], Measured]:
    """Settings and measurements of a file that :func:`write_json` wrote."""
    kept = json.loads(path.read_text())
    samples = {label: case["repetitions"] for label, case in kept["cases"].items()}
    return kept["settings"], Measured(samples, kept["left_out"], kept["failed"])


def _goal(goal: Goal, measured: Measured) -> dict[str, object]:
    values = goal.values(measured.samples)
    return {
        **asdict(goal),
        "values": values,
        "spread": rounded(asdict(Spread.of(values))) if values else None,
        "verdict": goal.verdict(values),
    }


def _summary(samples: Sequence[Mapping[str, float]]) -> dict[str, object]:
    return {
        metric: rounded(asdict(Spread.of([sample[metric] for sample in samples])))
        for metric in samples[0]
    }
