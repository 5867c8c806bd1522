"""Runs a driver's scenario under Node: Chromium, steered by playwright-core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]

#: What a scenario saw, as the driver prints it.
Seen = dict[str, Any]


@dataclass(frozen=True)
class Tools:
    """What drives a page."""

    node: str
    chromium: str
    playwright: Path


def _find_tools() -> Tools | str:
    """The tools, or the reason why there are none."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not os.access(chromium, os.X_OK):
        return f"there is no Chromium at {chromium} (CHROMIUM names another place)"
    named = os.environ.get("PLAYWRIGHT_CORE_DIR")
    playwright = Path(named or PROJECT / "node_modules" / "playwright-core")
    if not (playwright / "package.json").exists():
        return f"there is no playwright-core in {playwright}"
    return Tools(node, chromium, playwright)


TOOLS = _find_tools()

needs_chromium = pytest.mark.skipif(isinstance(TOOLS, str), reason=str(TOOLS))


def drive(driver: str, scenario: str, **given: object) -> Seen:
    """Run a scenario in a fresh browser.

    :param driver: a file beside this one.
    :param given: what the scenario is told.
    """
    assert isinstance(TOOLS, Tools)
    told = {
        "scenario": scenario,
        "playwright": str(TOOLS.playwright),
        "chromium": TOOLS.chromium,
        **given,
    }
    done = subprocess.run(
        [TOOLS.node, str(Path(__file__).with_name(driver)), json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen: Seen = json.loads(done.stdout)
    return seen
