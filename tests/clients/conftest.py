"""Servers that clients of others talk to, and a file for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.gunicorn import Server, serve

#: No multiple of any chunk's size.
SIZE = 5 * 2**20 + 17


@dataclass(frozen=True, slots=True)
class Source:
    """A file of random bytes."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        """What the server must have in the end."""
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers."""
    with serve(
        tmp_path_factory.mktemp("server"),
        CHUNKED_UPLOAD_DOWNLOADS=True,
        CHUNKED_UPLOAD_READ_TIMEOUT=5,
    ) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A file that no other test has."""
    path = tmp_path / "source.bin"
    content = os.urandom(SIZE)
    path.write_bytes(content)
    return Source(path, content)
