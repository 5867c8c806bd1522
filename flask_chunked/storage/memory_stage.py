"""The stage of the memory storage: one whole chunk in memory."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import uuid4

from .base import Stage


class MemoryStage(Stage):
    """A chunk in memory.

    :param stages: the storage's open stages by name; the stage is listed there until it
        is closed.
    :param modified_at: aware UTC time.
    """

    def __init__(self, stages: dict[str, MemoryStage], modified_at: datetime) -> None:
        self.size = 0
        self.content: bytearray | None = bytearray()
        self.modified_at = modified_at
        self._name = uuid4().hex
        self._stages = stages
        stages[self._name] = self

    def write(self, block: bytes | bytearray | memoryview) -> int:
        if self.content is None:
            raise RuntimeError("The stage is closed or was taken")
        self.content += block
        written = len(self.content) - self.size
        self.size += written
        return written

    def sha256(self) -> hashlib._Hash:
        if self.content is None:
            raise RuntimeError("The stage is closed or was taken")
        return hashlib.sha256(self.content)

    def close(self) -> None:
        self.content = None
        self._stages.pop(self._name, None)
