"""Upload a file in chunks, and go on after whatever cuts the connection.

``python examples/resume_with_requests.py http://127.0.0.1:5000/uploads/ FILE [URL]``

Prints the upload's URL first. Started again with that URL, it goes on where the server
says the upload stands. Needs only ``requests``.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from urllib.parse import quote

import requests

CHUNK_SIZE = 4 * 2**20
ATTEMPTS = 8


def upload(
    endpoint: str, path: Path, url: str | None = None, chunk_size: int = CHUNK_SIZE
) -> dict[str, object]:
    """Send the file; returns the JSON of the finished upload.

    :param endpoint: URL of the collection of uploads.
    :param url: of an upload that was begun before.
    :param chunk_size: bytes of one request.
    """
    size = os.path.getsize(path)
    with requests.Session() as session, path.open("rb") as source:
        offset = 0 if url is None else ask_offset(session, url)
        while url is None or offset < size:
            source.seek(offset)
            chunk = source.read(min(chunk_size, size - offset))
            answer = send_chunk(
                session, url or endpoint, path.name, chunk, offset, size
            )
            if answer is None:
                # Cut: what arrived is kept, so ask where to go on.
                offset = 0 if url is None else ask_offset(session, url)
                continue
            if url is None:
                url = str(answer["url"])
                print(url, flush=True)
            offset = int(str(answer["offset"]))
        return complete(session, url, path)


def send_chunk(
    session: requests.Session,
    url: str,
    name: str,
    chunk: bytes,
    offset: int,
    size: int,
) -> dict[str, object] | None:
    """PUT one chunk; ``None``: the offset must be asked for."""
    end = offset + len(chunk) - 1
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f'attachment; filename="{quote(name)}"',
        "Content-Range": f"bytes {offset}-{end}/{size}" if size else "bytes */0",
    }
    try:
        answer = session.put(url, data=chunk, headers=headers, timeout=30)
    except requests.RequestException:
        return None
    if answer.status_code == 200:
        result: dict[str, object] = answer.json()
        return result
    if answer.status_code >= 500 or "expected_offset" in answer.json():
        return None
    raise SystemExit(f"refused: {answer.status_code} {answer.json()['detail']}")


def ask_offset(session: requests.Session, url: str) -> int:
    """HEAD, until the server is there again."""
    for attempt in range(ATTEMPTS):
        try:
            answer = session.head(url, timeout=10)
            if answer.status_code < 500:
                answer.raise_for_status()
                return int(answer.headers["Upload-Offset"])
        except requests.ConnectionError:
            pass
        time.sleep(min(0.2 * 2**attempt, 10))
    raise SystemExit("the server does not answer; start again with the URL above")


def complete(session: requests.Session, url: str, path: Path) -> dict[str, object]:
    """POST the checksum; asked again after a lost answer, it says the same."""
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source:
        while block := source.read(2**20):
            md5.update(block)
    for attempt in range(ATTEMPTS):
        try:
            answer = session.post(url, data={"md5": md5.hexdigest()}, timeout=300)
        except requests.ConnectionError:
            time.sleep(min(0.2 * 2**attempt, 10))
            continue
        if answer.status_code == 200:
            result: dict[str, object] = answer.json()
            return result
        raise SystemExit(f"refused: {answer.status_code} {answer.json()['detail']}")
    raise SystemExit("the server does not answer; start again with the URL above")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    known = sys.argv[3] if len(sys.argv) == 4 else None
    done = upload(sys.argv[1], Path(sys.argv[2]), known)
    print(f"complete: {done['filename']}, {done['offset']} bytes")
