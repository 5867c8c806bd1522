"""The sizes of an upload's parts, and its state in the row: arithmetic, no I/O.

The state changes only in the transaction that moves the offset, or when a claim takes a
part number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from ...exceptions import StorageFull
from ..values import State

MIB = 2**20
#: The smallest part in bytes; only the last part may be smaller.
MIN_PART_SIZE = 5 * MIB
#: The largest part in bytes.
MAX_PART_SIZE = 5 * 2**30


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The sizes of parts.

    :param preferred: bytes of a part, unless the file needs larger parts.
    :param max_parts: the highest part number that the store accepts.
    """

    preferred: int
    max_parts: int

    def __post_init__(self) -> None:
        if not MIN_PART_SIZE <= self.preferred <= MAX_PART_SIZE:
            raise ValueError(
                f"part_size is {self.preferred} bytes; it must be "
                f"{MIN_PART_SIZE} to {MAX_PART_SIZE} bytes"
            )
        if not 2 <= self.max_parts <= 10_000:
            raise ValueError(f"max_parts is {self.max_parts}; it must be 2 to 10000")

    @property
    def usable_parts(self) -> int:
        """How many part numbers a plan may use.

        A tenth of the numbers is a reserve: if a writer takes a number and dies, the
        number is never used again.
        """
        return self.max_parts - self.max_parts // 10

    def part_size(self, length: int | None) -> int:
        """Bytes of every part except the last, for a file of ``length`` bytes.

        If the preferred size is too small, the size is a whole number of MiB.

        :raises StorageFull: the largest parts are too small for the file.
        """
        if length is None or length <= self.preferred * self.usable_parts:
            return self.preferred
        if length > MAX_PART_SIZE * self.usable_parts:
            raise StorageFull("The storage does not take files of this length")
        minimum = -(-length // self.usable_parts)
        return -(-minimum // MIB) * MIB


@dataclass(frozen=True, slots=True)
class UploadState:
    """Where the bytes of an unfinished upload are.

    :param part_size: bytes of each part except the last.
    :param upload: id of the multipart upload; ``None``: no part has been needed yet.
    :param next_part: the lowest part number that no writer has taken.
    :param parts: number of committed parts, all of ``part_size`` bytes.
    :param tail: key of the object with the bytes after the parts; ``None``: there are
        no such bytes.
    :param tail_size: bytes of the tail.
    """

    part_size: int
    upload: str | None = None
    next_part: int = 1
    parts: int = 0
    tail: str | None = None
    tail_size: int = 0

    @classmethod
    def from_row(cls, state: State | None, part_size: int) -> UploadState:
        """The state in the row, or the state of a new upload if the row has none."""
        if not state:
            return cls(part_size)
        return cls(**cast("Mapping[str, int]", state))  # type: ignore[arg-type]

    def to_row(self) -> State:
        """The state as the row's JSON."""
        return asdict(self)

    @property
    def parts_size(self) -> int:
        """Bytes in committed parts."""
        return self.parts * self.part_size

    @property
    def size(self) -> int:
        """Committed bytes."""
        return self.parts_size + self.tail_size
