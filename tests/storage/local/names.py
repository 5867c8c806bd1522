"""Names that tests of the local storage share."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from uuid import UUID

from flask_chunked.storage.base import Blob

ID = UUID("0b5f0b7e-3f57-4a55-9a58-0d8a0a3c2b11")


class Break(Protocol):
    def __call__(self, name: str, code: int, *, after: int = 0) -> None: ...


def file_of(tmp_path: Path, blob: Blob, suffix: str = ".part") -> Path:
    return tmp_path / "up" / (blob.key + suffix)
