"""Bodies that are cut, stalled, refused or reused, against a real gunicorn."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

#: Seconds without a byte after which the server gives a body up.
TIMEOUT = 2
SIZE = 1_000_000
CONTENT = os.urandom(SIZE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp = tmp_path_factory.mktemp("server")
    with serve(tmp, CHUNKED_UPLOAD_READ_TIMEOUT=TIMEOUT) as running:
        yield running


@pytest.fixture
def upload(server: Server) -> str:
    """The URL of a new upload whose first byte is there."""
    headers = {"Content-Range": f"bytes 0-0/{SIZE}"}
    answer = requests.put(server.url, data=CONTENT[:1], headers=headers, timeout=10)
    return str(answer.json()["url"])


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def ranged(start: int, stop: int = SIZE) -> dict[str, Any]:
    return {
        "Content_Range": f"bytes {start}-{stop - 1}/{SIZE}",
        "Content_Length": stop - start,
    }


def offset_of(url: str) -> int:
    """By GET, which takes nothing over."""
    return int(requests.get(url, timeout=10).json()["offset"])


def wait_for_offset(url: str, expected: int) -> None:
    """The server finds a lost client out when it is told; poll until then."""
    deadline = time.monotonic() + 5
    while offset_of(url) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert offset_of(url) == expected


def finish(url: str) -> None:
    """A client that asks and goes on gets the file complete."""
    offset = int(requests.head(url, timeout=10).headers["Upload-Offset"])
    headers = {"Content-Range": f"bytes {offset}-{SIZE - 1}/{SIZE}"}
    requests.put(url, data=CONTENT[offset:], headers=headers, timeout=10)
    md5 = hashlib.md5(CONTENT).hexdigest()
    answer = requests.post(url, data={"md5": md5}, timeout=10)
    assert answer.status_code == 200, answer.text


def test_a_file_arrives_in_one_body_and_in_many(server: Server, upload: str) -> None:
    with Wire(server.port) as wire:
        for start, stop in ((1, 1000), (1000, 500_000), (500_000, SIZE)):
            wire.head("PUT", path_of(upload), **ranged(start, stop))
            wire.send(CONTENT[start:stop])
            status, body = wire.answer()
            assert (status, body["offset"]) == (200, stop)
    finish(upload)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [0, 1, 1000, 8192, 100_000, 654_321])
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_cut_body_keeps_what_arrived(
    server: Server, upload: str, how: str, sent: int
) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), **ranged(1))
        wire.send(CONTENT[1 : 1 + sent])
        # RST throws away what the server has not read yet.
        wait_for_offset(upload, 1 + sent)
        getattr(wire, how)()
        if how == "fin":
            status, body = wire.answer()
            assert (status, body["detail"][:22]) == (400, "Request body ended bef")
    wait_for_offset(upload, 1 + sent)
    finish(upload)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [0, 1, 100_000])
def test_a_silent_client_is_given_up_in_time_and_its_bytes_stay(
    server: Server, upload: str, sent: int
) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), **ranged(1))
        wire.send(CONTENT[1 : 1 + sent])
        began = time.monotonic()
        status, body = wire.answer()
        waited = time.monotonic() - began
        assert status == 503
        assert "No data received for 2 seconds" in body["detail"]
        assert TIMEOUT - 0.5 <= waited <= TIMEOUT + 1
        # What it still sends must not be taken for another request.
        with pytest.raises(ConnectionError):
            wire.send(CONTENT[1 + sent : 50_000 + sent])
            wire.answer()
    assert offset_of(upload) == 1 + sent
    finish(upload)


@pytest.mark.slow
def test_a_slow_client_is_not_given_up(server: Server, upload: str) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), **ranged(1, 9))
        for index in range(1, 9):
            time.sleep(0.5)
            wire.send(CONTENT[index : index + 1])
        status, body = wire.answer()
    assert (status, body["offset"]) == (200, 9)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [0, 1, 1000, 300_000])
def test_head_takes_over_from_a_silent_client_at_once(
    server: Server, upload: str, sent: int
) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), **ranged(1))
        wire.send(CONTENT[1 : 1 + sent])
        wait_for_offset(upload, 1 + sent)
        began = time.monotonic()
        finish(upload)
        assert time.monotonic() - began < TIMEOUT
    assert requests.get(upload, timeout=10).json()["status"] == 2


@pytest.mark.slow
def test_a_cut_form_keeps_nothing(server: Server, upload: str) -> None:
    with Wire(server.port) as wire:
        wire.head(
            "PUT",
            path_of(upload),
            Content_Range=f"bytes 1-{SIZE - 1}/{SIZE}",
            Content_Type="multipart/form-data; boundary=x",
            Content_Length=SIZE + 200,
        )
        wire.send(b'--x\r\nContent-Disposition: form-data; name="file"; ')
        wire.send(b'filename="f"\r\n\r\n' + CONTENT[1:500_000])
        wire.fin()
        assert wire.answer()[0] == 400
    assert offset_of(upload) == 1
    staged = server.tmp / "instance" / "chunked_uploads" / ".staging"
    assert not staged.exists() or not list(staged.iterdir())
    finish(upload)


@pytest.mark.slow
def test_a_connection_goes_on_after_refusals_and_repeats(
    server: Server, upload: str
) -> None:
    with Wire(server.port) as wire:
        for start, stop, expected in (
            (5, 300_000, 400),
            (1, 300_000, 200),
            (1, 300_000, 200),
            (2, 300_000, 400),
            (300_000, SIZE, 200),
        ):
            wire.head("PUT", path_of(upload), **ranged(start, stop))
            wire.send(CONTENT[start:stop])
            assert wire.answer()[0] == expected


@pytest.mark.slow
def test_pipelined_requests_are_not_eaten(server: Server, upload: str) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), **ranged(1, 100))
        wire.send(CONTENT[1:100])
        wire.head("PUT", path_of(upload), **ranged(100, 300))
        wire.send(CONTENT[100:300])
        wire.head("GET", path_of(upload))
        seen = [wire.answer()[1]["offset"] for _ in range(3)]
    assert seen == [100, 300, 300]


@pytest.mark.slow
def test_a_large_body_that_is_refused_gets_its_answer(server: Server) -> None:
    headers = {"Content-Range": f"bytes 5-{64 * 2**20 + 4}/{2**30}"}
    answer = requests.put(
        server.url, data=bytes(64 * 2**20), headers=headers, timeout=30
    )
    assert answer.status_code == 400
    assert answer.json()["expected_offset"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pieces", "status", "offset"),
    [([99], 200, 100), ([50, 49], 200, 100), ([50], 400, 51), ([200], 400, 100)],
    ids=["right", "two pieces", "too short", "too long"],
)
def test_chunked_bodies(
    server: Server, upload: str, pieces: list[int], status: int, offset: int
) -> None:
    with Wire(server.port) as wire:
        wire.head(
            "PUT",
            path_of(upload),
            Content_Range=f"bytes 1-99/{SIZE}",
            Transfer_Encoding="chunked",
        )
        start = 1
        for size in pieces:
            wire.send(b"%x\r\n" % size + CONTENT[start : start + size] + b"\r\n")
            start += size
        wire.send(b"0\r\n\r\n")
        assert wire.answer()[0] == status
    assert offset_of(upload) == offset
    finish(upload)


@pytest.mark.slow
def test_a_client_that_waits_to_be_told_to_go_on(server: Server, upload: str) -> None:
    with Wire(server.port) as wire:
        wire.head("PUT", path_of(upload), Expect="100-continue", **ranged(1, 10))
        assert wire.answer()[0] == 100
        wire.send(CONTENT[1:10])
        assert wire.answer()[0] == 200


def test_files_are_for_the_server_alone(server: Server, upload: str) -> None:
    (part,) = (server.tmp / "instance").rglob(f"{upload.rsplit('/', 1)[1]}.part")
    assert part.stat().st_mode & 0o777 == 0o600
    assert Path(part.parent).stat().st_mode & 0o777 == 0o700
