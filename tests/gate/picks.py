"""What all draws need: sizes, contents, names, uploads, callers."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.gate.model import Model
from tests.gate.requests import DENY, PREFIX, USER
from tests.gate.rules import BAD_END, BAD_HEAD, BAD_LENGTHS, OWNERS
from tests.gate.uploads import Upload

SIZES = (0, 1, 20, 4095, 4096, 4097, 5000)
TUS = {"Tus-Resumable": "1.0.0"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ACTIONS = ("append", "complete", "read", "download", "terminate", "delete")
_FLAGS = (
    *("novalidate", "noinspect", "late", "late", "shape", "shape"),
    *(f"no{action}" for action in ACTIONS),
)


class Picks:
    """Everything comes from one generator, so that a seed is a run."""

    def __init__(self, model: Model, rng: random.Random) -> None:
        self._model = model
        self._rng = rng

    def _is(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _size(self) -> int:
        if self._is(0.03):
            return self._rng.choice(sorted(BAD_LENGTHS))
        return self._rng.choice(SIZES)

    def _huge(self) -> int:
        """A length at the limit of all lengths, or above it."""
        over = [2**53, 2**63 - 1]
        if self._model.most < 2**53 - 1:
            return self._rng.choice(over)
        return self._rng.choice([2**53 - 1, *over])

    def _bytes(self, size: int, *, first: bool, last: bool) -> bytes:
        """Content that hooks let pass, mostly.

        :param first: it begins the file.
        :param last: it ends the file.
        """
        body = bytearray(self._rng.randbytes(size))
        if size and (not first or not self._is(0.06)) and body[:1] == BAD_HEAD:
            body[0] = 0
        if size and first and self._is(0.06):
            body[:1] = BAD_HEAD
        if size and body[-1:] == BAD_END:
            body[-1] = 1
        if size and last and self._is(0.06):
            body[-1:] = BAD_END
        return bytes(body)

    def _name(self) -> str:
        flags = []
        if self._is(0.3):
            flags = self._rng.sample(_FLAGS, self._rng.choice([1, 1, 1, 2]))
        return "-".join([self._rng.choice("abc"), *flags]) + ".bin"

    def _upload(self, wanted: Callable[[Upload], bool]) -> Upload | None:
        """One that is wanted, mostly; else any, gone ones included."""
        all_there = list(self._model.there())
        # Those whose time is over answer all alike.
        live = [one for one in all_there if not self._model.is_over(one)]
        fine = [one for one in live if wanted(one)]
        chosen = fine if fine and self._is(0.85) else live
        if self._is(0.06):
            chosen = all_there
        if self._is(0.03) or not chosen:
            chosen = [one for one in self._model.uploads if one.id is not None]
        # Recent ones more often, so that some get somewhere.
        recent = chosen[-6:] if self._is(0.7) else chosen
        return self._rng.choice(recent) if recent and not self._is(0.02) else None

    def _path(self, upload: Upload | None) -> str:
        if upload is None:
            return f"{PREFIX}/{self._rng.choice([UNKNOWN, 'x'])}"
        return f"{PREFIX}/{upload.id}"

    def _who(self, upload: Upload | None = None) -> dict[str, str]:
        """Headers that say who asks: the owner, mostly."""
        owner = self._rng.choices([*OWNERS, None], [4, 3, 2])[0]
        if upload is not None and self._is(0.93):
            owner = upload.user
        headers = {} if owner is None else {USER: owner}
        if self._is(0.02):
            headers[DENY] = self._rng.choice(["create", "list", *ACTIONS])
        return headers

    def _any(self) -> Upload | None:
        return self._upload(lambda one: True)

    def _ids(self) -> list[str]:
        return [one.id for one in self._model.uploads if one.id is not None]

    def _part_of(self, left: int) -> int:
        """Bytes of a chunk: all that is left, a part, nothing, too much."""
        left = max(0, left)
        if left > 4 * SIZES[-1]:
            return self._rng.choice(SIZES)
        how = self._rng.random()
        if how < 0.5:
            return left
        if how < 0.85:
            return self._rng.randrange(left + 1)
        return 0 if how < 0.94 else left + self._rng.choice([1, 20])
