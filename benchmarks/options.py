"""What a person may say about a run; sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from benchmarks.client import MIB
from benchmarks.receivers import PEERS


@dataclass(frozen=True, slots=True)
class Options:
    """The same for all benchmarks; each takes what concerns it.

    :param size: of one upload.
    :param sizes: of the uploads of benchmarks that compare several.
    :param uploads: so many small ones.
    :param rows: of the large table.
    :param threads: of each of our two workers where the uploads are small.
    :param clients: slow clients beside the fast one.
    :param seconds: that a slow client is silent before it is given up.
    """

    repeat: int = 5
    size: int = 1024 * MIB
    sizes: tuple[int, ...] = ()
    peers: tuple[str, ...] = PEERS
    uploads: int = 2000
    threads: int = 8
    rows: int = 1_000_000
    clients: int = 200
    seconds: int = 3

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Options:
        """From a result's settings; what newer versions added has its default."""
        known = {one.name for one in fields(cls)}
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
            if name in known
        }
        return cls(**told)
