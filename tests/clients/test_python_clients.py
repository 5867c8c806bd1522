"""tuspy and aiotus against a real server, unchanged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.conftest import Source
from tests.documents import TUS, code, section
from tests.servers.gunicorn import Server, serve

pytestmark = [
    pytest.mark.slow,
    # tuspy leaves its file open; aiotus hands aiohttp large chunks.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

MIB = 2**20


@pytest.fixture(scope="module")
def absolute_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """aiotus 1.1 cannot resolve a path in ``Location``; it wants a whole URL."""
    with serve(
        tmp_path_factory.mktemp("absolute"),
        absolute_location=True,
        CHUNKED_UPLOAD_DOWNLOADS=True,
    ) as running:
        yield running


def stored(url: object) -> str:
    """SHA-256 of the upload's content, as the server hands it out."""
    answer = requests.get(f"{url}/file", timeout=30)
    assert answer.status_code == 200
    return hashlib.sha256(answer.content).hexdigest()


@pytest.mark.parametrize("chunk_size", [MIB, 2**30], ids=["chunks", "one body"])
@pytest.mark.parametrize("with_checksum", [False, True], ids=["plain", "checksum"])
@pytest.mark.parametrize("metadata", [{}, {"filename": "nä.bin"}], ids=["none", "name"])
def test_tuspy_uploads(
    server: Server,
    source: Source,
    chunk_size: int,
    with_checksum: bool,
    metadata: dict[str, str],
) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    uploader = client.uploader(
        str(source.path),
        chunk_size=chunk_size,
        metadata=metadata,
        upload_checksum=with_checksum,
    )
    uploader.upload()
    assert stored(uploader.url) == source.sha256


def test_tuspy_resumes_from_its_store(
    server: Server, source: Source, tmp_path: Path
) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    storage = pytest.importorskip("tusclient.storage.filestorage").FileStorage(
        str(tmp_path / "urls.json")
    )
    options = {"chunk_size": MIB, "store_url": True, "url_storage": storage}
    client.uploader(str(source.path), **options).upload(stop_at=MIB)
    resumed = client.uploader(str(source.path), **options)
    assert resumed.offset == MIB
    resumed.upload()
    assert stored(resumed.url) == source.sha256


def test_lines_of_the_page_upload_with_tuspy(
    server: Server, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tusclient")
    (block,) = code(section(TUS, "tuspy"))
    endpoint = "http://127.0.0.1:5000/uploads/"
    assert endpoint in block
    source.path.rename(tmp_path / "large.bin")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block.replace(endpoint, server.url), names)
    assert stored(names["uploader"].url) == source.sha256


def test_tuspy_uploads_with_asyncio(server: Server, source: Source) -> None:
    client = pytest.importorskip("tusclient.client").TusClient(server.url)
    uploader = client.async_uploader(str(source.path), chunk_size=MIB)
    asyncio.run(uploader.upload())
    assert stored(uploader.url) == source.sha256


def test_aiotus_uploads_and_reads_metadata(
    absolute_server: Server, source: Source
) -> None:
    aiotus = pytest.importorskip("aiotus")

    async def upload() -> tuple[object, dict[str, object]]:
        with source.path.open("rb") as file:
            url = await aiotus.upload(absolute_server.url, file, {"filename": b"a.bin"})
        return url, await aiotus.metadata(url)

    url, metadata = asyncio.run(upload())
    assert metadata["filename"] == b"a.bin"
    assert stored(url) == source.sha256


def test_aiotus_concatenates_several_files(
    absolute_server: Server, source: Source, tmp_path: Path
) -> None:
    aiotus = pytest.importorskip("aiotus")
    third = len(source.content) // 3 + 1
    parts = []
    for index in range(3):
        part = tmp_path / f"part{index}"
        part.write_bytes(source.content[index * third : (index + 1) * third])
        parts.append(part)

    async def upload() -> object:
        files = [part.open("rb") for part in parts]
        try:
            return await aiotus.upload_multiple(absolute_server.url, files)
        finally:
            for file in files:
                file.close()

    assert stored(asyncio.run(upload())) == source.sha256
