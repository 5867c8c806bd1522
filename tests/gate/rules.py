"""What the application of the fuzz decides, as pure functions, and its configuration.

The real application's hooks and the model call the same functions. So the two can
differ only in which hooks are asked, when, and about what.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

#: Does a final upload that is removed while it waits let go of partial uploads that
#: another one is made of (``keep_partials = False``)? One that is made does.
DROPS_LATE = True
#: Hooks that the application may override.
HOOKS = ("authorize", "validate", "inspect", "verify", "deliver", "on_completion")
#: Owners of uploads; ``None`` is an anonymous caller.
OWNERS = ("alice", "bob")
#: Declared lengths that ``validate`` refuses.
BAD_LENGTHS = frozenset({21, 4098})
#: The first byte that ``inspect`` refuses, and the last one that ``verify`` refuses.
BAD_HEAD, BAD_END = b"I", b"V"
#: Status of an error that ``verify`` raises; the other hooks leave it to the dialect.
VERIFY_STATUS = 451
#: What ``on_completion`` answers for some uploads.
SHAPED = ("shaped", 202)


#: Limits that are drawn, in bytes or uploads.
_LIMITS: dict[str, list[int | None]] = {
    "max_bytes": [None, 4_500, 12_000, 20_000],
    "max_open": [None, 3, 5, 9],
    "max_total": [None, 20_000, 40_000],
    "max_stored": [None, 40_000, 90_000],
}


def refuses_declared(filename: str, length: int | None) -> bool:
    """Does ``validate`` refuse this?"""
    return "novalidate" in filename or length in BAD_LENGTHS


def refuses_head(filename: str, head: bytes) -> bool:
    """Does ``inspect`` refuse this?"""
    return "noinspect" in filename or head[:1] == BAD_HEAD


def refuses_content(content: bytes) -> bool:
    """Does ``verify`` refuse this?"""
    return content[-1:] == BAD_END


def permits(action: str, filename: str | None, denied: str) -> bool:
    """Does ``authorize`` agree?

    :param filename: of the upload; ``None`` where there is no upload yet.
    :param denied: actions that this request says are denied, separated by commas.
    """
    by_name = filename is not None and f"no{action}" in filename
    return action not in denied.split(",") and not by_name


def fails_to_deliver(filename: str, attempt: int) -> bool:
    """Does ``deliver`` raise at its nth call, from 1?"""
    return "late" in filename and attempt < 3


def is_shaped(filename: str) -> bool:
    """Does ``on_completion`` answer by itself?"""
    return "shape" in filename


@dataclass(frozen=True, slots=True)
class Rules:
    """Configuration of one seed's application; sizes in bytes, ``None``: no limit.

    :param hooks: that are overridden.
    :param titled: the schema demands a field ``title``.
    :param moving: hooks give the limits, and they change while the server runs.
    """

    hooks: frozenset[str]
    max_bytes: int | None
    max_open: int | None
    max_total: int | None
    max_stored: int | None
    keep_partials: bool
    allow_anonymous: bool
    checksums: bool
    titled: bool
    moving: bool
    idle: timedelta
    lifetime: timedelta | None

    @property
    def counts(self) -> bool:
        """Is anything counted for each owner?"""
        return (self.max_open, self.max_total, self.max_stored) != (None,) * 3

    @property
    def limits_bytes(self) -> bool:
        """Does a length that is not known have to be reserved?"""
        return (self.max_total, self.max_stored) != (None, None)


def draw_limits(draw: random.Random, *, moving: bool) -> dict[str, int | None]:
    """The four limits.

    :param moving: something is counted, whatever comes.
    """
    limited = moving or draw.random() < 0.6
    limits = {name: draw.choice(sizes) for name, sizes in _LIMITS.items() if limited}
    if moving and limits["max_open"] is None:
        limits["max_open"] = 100
    return {**dict.fromkeys(_LIMITS), **limits}


def draw_rules(draw: random.Random) -> Rules:
    """The configuration of a seed."""
    amount = draw.choice([0.0, 0.5, 0.5, 0.7, 1.0])
    moving = draw.random() < 0.25
    return Rules(
        hooks=frozenset(hook for hook in HOOKS if draw.random() < amount),
        **draw_limits(draw, moving=moving),
        moving=moving,
        # Without DROPS_LATE it depends on the order of finals which partial stays.
        keep_partials=draw.random() < 0.6 or not DROPS_LATE,
        allow_anonymous=draw.random() < 0.8,
        checksums=draw.random() < 0.8,
        titled=draw.random() < 0.2,
        idle=timedelta(hours=draw.choice([6, 24])),
        lifetime=draw.choice([None, None, None, timedelta(days=3)]),
    )
