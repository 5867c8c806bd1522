"""What a person may say about a run; sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

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
