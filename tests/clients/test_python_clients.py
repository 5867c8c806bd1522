"""tuspy and aiotus against a real server, unchanged."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.server import Server, serve

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CONTENT = os.urandom(3 * 2**20 + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def absolute_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """aiotus 1.1 cannot resolve a path in ``Location``; it wants a whole URL."""
    with serve(tmp_path_factory.mktemp("absolute"), absolute=True) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


def newest(server: Server) -> str:
    path = max(server.finished(), key=lambda path: path.stat().st_mtime_ns)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("chunk_size", [2**20, 2**30], ids=["chunks", "one body"])
@pytest.mark.parametrize("with_checksum", [False, True], ids=["plain", "checksum"])
@pytest.mark.parametrize("metadata", [{}, {"filename": "nä.bin"}], ids=["none", "name"])
def test_tuspy_uploads(
    server: Server,
    source: Path,
    chunk_size: int,
    with_checksum: bool,
    metadata: dict[str, str],
) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    uploader = client.uploader(
        str(source),
        chunk_size=chunk_size,
        metadata=metadata,
        upload_checksum=with_checksum,
    )
    uploader.upload()
    assert newest(server) == SHA256


def test_tuspy_resumes_from_its_store(
    server: Server, source: Path, tmp_path: Path
) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    storage = pytest.importorskip("tusclient.storage.filestorage").FileStorage(
        str(tmp_path / "urls.json")
    )
    options = {
        "chunk_size": 2**20,
        "store_url": True,
        "url_storage": storage,
    }
    client.uploader(str(source), **options).upload(stop_at=2**20)
    resumed = client.uploader(str(source), **options)
    assert resumed.offset == 2**20
    resumed.upload()
    assert newest(server) == SHA256


def test_tuspy_uploads_with_asyncio(server: Server, source: Path) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    uploader = client.async_uploader(str(source), chunk_size=2**20)
    asyncio.run(uploader.upload())
    assert newest(server) == SHA256


def test_aiotus_uploads_and_reads_metadata(
    absolute_server: Server, source: Path
) -> None:
    aiotus = pytest.importorskip("aiotus")

    async def upload() -> dict[str, object]:
        with source.open("rb") as file:
            url = await aiotus.upload(absolute_server.url, file, {"filename": b"a.bin"})
        found: dict[str, object] = await aiotus.metadata(url)
        return found

    assert asyncio.run(upload())["filename"] == b"a.bin"
    assert newest(absolute_server) == SHA256


def test_aiotus_concatenates_several_files(
    absolute_server: Server, source: Path, tmp_path: Path
) -> None:
    aiotus = pytest.importorskip("aiotus")
    parts = []
    for index in range(3):
        part = tmp_path / f"part{index}"
        part.write_bytes(CONTENT[index * 2**20 : (index + 1) * 2**20])
        parts.append(part)

    async def upload() -> None:
        files = [part.open("rb") for part in parts]
        try:
            await aiotus.upload_multiple(absolute_server.url, files)
        finally:
            for file in files:
                file.close()

    asyncio.run(upload())
    assert newest(absolute_server) == hashlib.sha256(CONTENT[: 3 * 2**20]).hexdigest()
