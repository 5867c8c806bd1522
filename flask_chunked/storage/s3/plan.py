"""How an upload is cut into parts, and what of it is known: arithmetic, no I/O.

The state of an S3 upload as its row keeps it; changed only with the row's offset, or
by a claim that takes a part number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from ...exceptions import StorageFull
from ..base import State

MIB = 2**20
#: No part but the last may be smaller (bytes).
MIN_PART_SIZE = 5 * MIB
#: No part may be larger (bytes).
MAX_PART_SIZE = 5 * 2**30


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The sizes of parts.

    :param preferred: bytes of a part, where the file is not too long for it.
    :param max_parts: highest part number that the store takes.
    """

    preferred: int
    max_parts: int

    def __post_init__(self) -> None:
        if not MIN_PART_SIZE <= self.preferred <= MAX_PART_SIZE:
            raise ValueError(
                f"part_size is {self.preferred} bytes; S3 takes parts of "
                f"{MIN_PART_SIZE} to {MAX_PART_SIZE} bytes"
            )
        if not 2 <= self.max_parts <= 10_000:
            raise ValueError(f"max_parts is {self.max_parts}; S3 takes 2 to 10000")

    @property
    def usable_parts(self) -> int:
        """Numbers that are planned with.

        A tenth is kept back: a number that a writer took and did not live to use is
        never taken again.
        """
        return self.max_parts - self.max_parts // 10

    def part_size(self, length: int | None) -> int:
        """Bytes of every part but the last, for a file of this length.

        Whole MiB where the preferred size does not do.

        :raises StorageFull: no size does.
        """
        if length is None or length <= self.preferred * self.usable_parts:
            return self.preferred
        if length > MAX_PART_SIZE * self.usable_parts:
            raise StorageFull("The storage does not take files of this length")
        least = -(-length // self.usable_parts)
        return -(-least // MIB) * MIB


@dataclass(frozen=True, slots=True)
class UploadState:
    """Where the bytes of an unfinished upload are.

    :param part_size: bytes of each part but the last.
    :param upload: id of the multipart upload; ``None``: no part was needed yet.
    :param next_part: the lowest number that nobody took.
    :param parts: parts committed, all of ``part_size``.
    :param tail: name of the object with the bytes behind them; ``None``: none are.
    :param tail_size: bytes of it.
    """

    part_size: int
    upload: str | None = None
    next_part: int = 1
    parts: int = 0
    tail: str | None = None
    tail_size: int = 0

    @classmethod
    def from_row(cls, state: State | None, part_size: int) -> UploadState:
        """What the row says; a new upload's where it says nothing."""
        if not state:
            return cls(part_size)
        return cls(**cast("Mapping[str, int]", state))  # type: ignore[arg-type]

    def to_row(self) -> State:
        """For the row's JSON."""
        return asdict(self)

    @property
    def parts_size(self) -> int:
        """Bytes in committed parts."""
        return self.parts * self.part_size

    @property
    def size(self) -> int:
        """Committed bytes."""
        return self.parts_size + self.tail_size
