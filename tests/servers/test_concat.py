"""A final upload of a hundred partial ones, whose makers are killed."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import requests

from tests.servers.gunicorn import Server, serve

pytestmark = pytest.mark.slow

PARTS = 100
PART_SIZE = 3 * 2**20
#: Final uploads whose making is cut by kill -9 of everything.
KILLS = int(os.environ.get("CONCAT_KILLS", "6"))
TUS = {"Tus-Resumable": "1.0.0"}


def partial(session: requests.Session, server: Server, content: bytes) -> str:
    answer = session.post(
        server.url,
        data=content,
        headers={
            **TUS,
            "Upload-Concat": "partial",
            "Upload-Length": str(len(content)),
            "Content-Type": "application/offset+octet-stream",
        },
        timeout=30,
    )
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def create_final(server: Server, urls: list[str], created: list[str]) -> None:
    """POST, whatever becomes of it."""
    headers = {**TUS, "Upload-Concat": "final;" + " ".join(urls)}
    try:
        answer = requests.post(server.url, headers=headers, timeout=60)
    except requests.RequestException:
        return
    assert answer.status_code == 201, answer.text
    created.append(answer.headers["Location"])


def finals(server: Server) -> list[str]:
    """The ids of all final uploads, also of those whose creator never heard of it."""
    with closing(sqlite3.connect(server.tmp / "app.db")) as database:
        rows = database.execute(
            "SELECT id FROM chunked_upload WHERE concat LIKE 'final%'"
        ).fetchall()
    return [str(UUID(str(row[0]))) for row in rows]


def wait_until_made(url: str, length: int) -> None:
    """HEAD makes what a crash has left; GET shows how far it is."""
    deadline = time.monotonic() + 60
    offsets = [0]
    while offsets[-1] != length:
        assert time.monotonic() < deadline, offsets
        answer = requests.head(url, headers=TUS, timeout=60)
        assert answer.status_code == 200
        assert answer.headers["Upload-Length"] == str(length)
        # Not told before it is made (tus 1.0.0, Concatenation).
        assert answer.headers.get("Upload-Offset") in (None, str(length))
        offsets.append(int(requests.get(url, timeout=10).json()["offset"]))
        assert offsets[-1] >= offsets[-2]
        time.sleep(0.2)


def test_final_uploads_survive_their_makers(tmp_path: Path) -> None:
    contents = [random.Random(n).randbytes(PART_SIZE) for n in range(PARTS)]
    expected = hashlib.sha256(b"".join(contents)).hexdigest()
    length = PARTS * PART_SIZE
    with serve(tmp_path, CHUNKED_UPLOAD_DOWNLOADS=True) as server:
        with requests.Session() as session:
            urls = [partial(session, server, content) for content in contents]
        began = time.monotonic()
        whole: list[str] = []
        create_final(server, urls, whole)
        took = time.monotonic() - began
        assert len(whole) == 1
        for number in range(KILLS):
            thread = threading.Thread(target=create_final, args=(server, urls, whole))
            thread.start()
            # Over the whole of the time that it took undisturbed.
            time.sleep(took * number / KILLS)
            server.kill_all()
            thread.join(60)
            server.start_again()
            # The port is open before the workers are ready for the next one.
            requests.options(server.url, timeout=30)
        made = finals(server)
        for upload_id in made:
            wait_until_made(server.url + upload_id, length)
        assert len(made) > 1
        assert set(made) >= {url.rsplit("/", 1)[1] for url in whole}
        for upload_id in made:
            address = server.url + upload_id
            shown = requests.get(address, timeout=30).json()
            assert (shown["status"], shown["offset"]) == (2, length)
            with requests.get(address + "/file", stream=True, timeout=30) as answer:
                digest = hashlib.sha256()
                for block in answer.iter_content(2**20):
                    digest.update(block)
            assert digest.hexdigest() == expected
        # Partial uploads keep a life of their own.
        assert requests.head(
            server.url + urls[0].rsplit("/", 1)[1], headers=TUS, timeout=10
        ).headers["Upload-Offset"] == str(PART_SIZE)
        print(f"{PARTS} x {PART_SIZE} bytes in {took:.2f} s, {len(made)} made")
