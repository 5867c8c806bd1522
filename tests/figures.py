"""How often the fault suite does what: the tier's figure, the seed of a run.

``FAULT_TIER=release`` takes the figures of a release instead of those of a change, and
``FAULT_PIECES=N`` the Nth part of them, for N runs; a variable of the figure's own name
takes any other number. ``pytest --seed N`` repeats a run: without it each one draws a
seed and prints it.
"""

from __future__ import annotations

import os
import random

#: Set by ``--seed``; workers of xdist inherit it.
SEED = "FAULT_SEED"
RELEASE = os.environ.get("FAULT_TIER", "").lower() == "release"


PIECES = int(os.environ.get("FAULT_PIECES", "1"))


def figure(name: str, change: int, release: int) -> int:
    """How often, in this tier, unless the environment names another number.

    :param name: of the variable that overrides it.
    """
    wanted = max(change, -(-release // PIECES)) if RELEASE else change
    return int(os.environ.get(name, wanted))


def size(name: str, change: int, release: int) -> int:
    """How much at once or how long; the same in every piece of a release."""
    return int(os.environ.get(name, release if RELEASE else change))


def run_seed() -> int:
    """The seed that was asked for, or a drawn one; printed, so that it can be asked."""
    asked = os.environ.get(SEED)
    seed = random.SystemRandom().getrandbits(32) if asked is None else int(asked)
    print(f"seed {seed}", flush=True)
    return seed
