"""Large files, and chunks of every size, through a real server into a real bucket."""

from __future__ import annotations

import hashlib
import http.client
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.dialects.tus import BYTES, TUS
from tests.figures import run_seed, size
from tests.s3 import S3Server, left_in
from tests.servers.gunicorn import Server, serve
from tests.servers.test_memory import MOST, peak

pytestmark = pytest.mark.slow

MIB = 2**20
#: Bytes of the large file; parts have 5 MiB.
SIZE = size("S3_SIZE_MIB", 256, 5 * 1024) * MIB
#: Bytes of chunks, from one to 100 MiB, on both sides of a part and of a section.
UNEVEN = (1, 4095, 5 * MIB - 1, 1, 5 * MIB, 5 * MIB + 1, 100 * MIB, 2, 17 * MIB, 33)
UNEVEN_MORE = (32 * MIB - 1, 32 * MIB + 1, 10 * MIB, 700_001, 1)
BLOCK = random.Random(9).randbytes(MIB + 1)


def piece(start: int, stop: int) -> Iterator[bytes]:
    """Bytes of the one content there is; no two MiB of it are the same."""
    while start < stop:
        at = start % len(BLOCK)
        count = min(len(BLOCK) - at, stop - start, MIB)
        yield BLOCK[at : at + count]
        start += count


@pytest.fixture
def server(tmp_path: Path, s3_server: S3Server) -> Iterator[Server]:
    options = s3_server.options()
    with ExitStack() as stack:
        running = stack.enter_context(
            serve(
                tmp_path,
                "--workers",
                "1",
                CHUNKED_UPLOAD_DOWNLOADS=True,
                storage_class="flask_chunked.storage.s3:S3Storage",
                storage_options=options,
            )
        )
        yield running
        with s3_server.storage(tmp_path, prefix=options["prefix"]) as storage:
            objects, pending = left_in(storage)
            assert pending == []
            for key in objects:
                storage.bucket.delete(key)
            assert not [key for key in objects if ".tail." in key]


def create(server: Server, length: int) -> str:
    """The path of a new upload."""
    headers = {**TUS, "Upload-Length": str(length)}
    created = requests.post(server.url, headers=headers, timeout=60)
    return created.headers["Location"]


def append(server: Server, path: str, start: int, stop: int) -> None:
    headers = {
        **BYTES,
        "Upload-Offset": str(start),
        "Content-Length": str(stop - start),
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    connection.request("PATCH", path, piece(start, stop), headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(stop))
    connection.close()


def require_whole(url: str, length: int) -> None:
    sent, stored = hashlib.sha256(), hashlib.sha256()
    for block in piece(0, length):
        sent.update(block)
    with requests.get(f"{url}/file", stream=True, timeout=600) as answer:
        for block in answer.iter_content(MIB):
            stored.update(block)
    assert stored.hexdigest() == sent.hexdigest()


def test_large_file_in_parts_of_5_mib(server: Server) -> None:
    small = create(server, 11 * MIB)
    append(server, small, 0, 11 * MIB)
    (worker,) = server.workers()
    before = peak(worker)
    url = create(server, SIZE)
    append(server, url, 0, SIZE)
    print(f"{peak(worker) - before} bytes more at most for {SIZE}")
    assert peak(worker) - before <= MOST
    require_whole(server.origin + url, SIZE)


def test_chunks_from_one_byte_to_100_mib(server: Server) -> None:
    chance = random.Random(run_seed())
    sizes = [*UNEVEN, *UNEVEN_MORE]
    chance.shuffle(sizes)
    print(sizes)
    url, offset = create(server, sum(sizes)), 0
    for count in sizes:
        append(server, url, offset, offset + count)
        offset += count
    require_whole(server.origin + url, offset)
