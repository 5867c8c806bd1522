"""What each WSGI server lets us keep of a body that is cut, in both dialects."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.servers.gunicorn import Server
from tests.servers.others import Nginx, serve_kind
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

#: Seconds without a byte after which the server gives a body up.
TIMEOUT = 2
SIZE = 1_000_000
#: Bytes that are sent before the cut, some of them in small pieces.
SENT = 300_000
CONTENT = os.urandom(SIZE)


@dataclass(frozen=True)
class Habits:
    """What a server gives away: bytes that may be lost of those it was sent.

    :ivar cut: when the client says that nothing more comes (FIN).
    :ivar lost: when the connection is reset.
    :ivar silent: when the client says nothing for the read timeout; ``None``: the
        server has another idea of time, and the next request lets the body go.
    """

    cut: int
    lost: int
    silent: int | None


#: All of them; nothing else is possible where the server has the whole body first.
ALL = SENT
#: One read; what it had is lost with it.
ONE_READ = 256 * 2**10

#: What a proxy holds when its client is gone.
ONE_BUFFER = 32 * 2**10

HABITS = {
    "gunicorn-gthread": Habits(0, 0, 0),
    "gunicorn-sync": Habits(0, 0, 0),
    "gunicorn-gevent": Habits(0, 0, 0),
    "werkzeug": Habits(0, 0, 0),
    "nginx-off": Habits(ONE_BUFFER, ONE_BUFFER, 0),
    "cheroot": Habits(0, ONE_READ, None),
    "gevent": Habits(ONE_READ, ONE_READ, None),
    "waitress": Habits(ALL, ALL, None),
    "nginx-on": Habits(ALL, ALL, None),
}


@pytest.fixture(scope="module", params=HABITS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | Nginx]:
    name, _, how = kind.partition("-")
    if name == "nginx" and shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    module = "gevent" if how == "gevent" else name
    if name != "nginx" and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    tmp: Path = tmp_path_factory.mktemp("server")
    with serve_kind(kind, tmp, CHUNKED_UPLOAD_READ_TIMEOUT=TIMEOUT) as running:
        yield running


def put_head(wire: Wire, path: str, start: int) -> None:
    wire.head(
        "PUT",
        path,
        Content_Range=f"bytes {start}-{SIZE - 1}/{SIZE}",
        Content_Length=SIZE - start,
        Content_Type="application/octet-stream",
    )


def patch_head(wire: Wire, path: str, start: int) -> None:
    wire.head(
        "PATCH",
        path,
        Tus_Resumable="1.0.0",
        Upload_Offset=start,
        Content_Length=SIZE - start,
        Content_Type="application/offset+octet-stream",
    )


Head = Callable[[Wire, str, int], None]
DIALECTS = pytest.mark.parametrize("head", [put_head, patch_head], ids=["put", "tus"])


@pytest.fixture
def path(server: Server | Nginx) -> str:
    """The path of a new upload without a byte."""
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(SIZE)}
    answer = requests.post(server.url, headers=headers, timeout=10)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def shown(server: Server | Nginx, path: str) -> int:
    """The offset, by GET, which takes nothing over."""
    url = server.url.rstrip("/").removesuffix("/uploads") + path
    return int(requests.get(url, timeout=10).json()["offset"])


def head_offset(server: Server | Nginx, path: str) -> int:
    """The offset, by HEAD, which takes over."""
    url = server.url.rstrip("/").removesuffix("/uploads") + path
    answer = requests.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=15)
    return int(answer.headers["Upload-Offset"])


def wait_for(server: Server | Nginx, path: str, least: int) -> int:
    """Poll until so many bytes are safe; what is safe in the end."""
    deadline = time.monotonic() + 5
    while shown(server, path) < least and time.monotonic() < deadline:
        time.sleep(0.02)
    return shown(server, path)


def send_in_pieces(wire: Wire) -> None:
    """A burst, and small pieces behind it."""
    wire.send(CONTENT[: SENT - 30_000])
    for start in range(SENT - 30_000, SENT, 10_000):
        time.sleep(0.02)
        wire.send(CONTENT[start : start + 10_000])


def finish(server: Server | Nginx, path: str, head: Head) -> None:
    """A client that asks and goes on gets the file complete and right."""
    offset = head_offset(server, path)
    with Wire(server.port) as wire:
        head(wire, path, offset)
        wire.send(CONTENT[offset:])
        status, _ = wire.answer()
        assert status in (200, 204)
    assert shown(server, path) == SIZE
    (file,) = (
        found
        for found in (server.tmp / "instance").rglob(f"{path.rsplit('/', 1)[1]}.*")
        if found.suffix in (".part", ".done")
    )
    assert file.read_bytes() == CONTENT


@DIALECTS
def test_a_whole_body_arrives(server: Server | Nginx, path: str, head: Head) -> None:
    finish(server, path, head)


@DIALECTS
def test_a_cut_body_keeps_what_arrived(
    server: Server | Nginx, path: str, head: Head, kind: str
) -> None:
    with Wire(server.port) as wire:
        head(wire, path, 0)
        send_in_pieces(wire)
        wire.fin()
        with contextlib.suppress(OSError):
            status, _ = wire.answer()
            # A proxy may answer for a server that closed the connection.
            assert status in (400, 503) or isinstance(server, Nginx)
    least = SENT - HABITS[kind].cut
    assert least <= wait_for(server, path, least) <= SENT
    finish(server, path, head)


@DIALECTS
def test_a_reset_connection_keeps_what_was_read(
    server: Server | Nginx, path: str, head: Head, kind: str
) -> None:
    least = SENT - HABITS[kind].lost
    with Wire(server.port) as wire:
        head(wire, path, 0)
        send_in_pieces(wire)
        # RST throws away what the server has not read yet.
        if least:
            wait_for(server, path, least)
        wire.reset()
    assert least <= wait_for(server, path, least) <= SENT
    finish(server, path, head)


@DIALECTS
def test_a_silent_client_loses_nothing_and_holds_nobody_up(
    server: Server | Nginx, path: str, head: Head, kind: str
) -> None:
    silent = HABITS[kind].silent
    with Wire(server.port) as wire:
        head(wire, path, 0)
        send_in_pieces(wire)
        if silent is not None:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                assert wire.answer()[0] in (503, 502)
            assert time.monotonic() - began < TIMEOUT + 1
            assert wait_for(server, path, SENT - silent) == SENT
        # The old request still waits where nothing ends it: the new one wins.
        finish(server, path, head)


@DIALECTS
def test_head_takes_over_at_once(server: Server | Nginx, path: str, head: Head) -> None:
    with Wire(server.port) as wire:
        head(wire, path, 0)
        send_in_pieces(wire)
        time.sleep(0.3)
        began = time.monotonic()
        finish(server, path, head)
        assert time.monotonic() - began < TIMEOUT


@DIALECTS
def test_a_connection_serves_as_many_requests_as_its_server_says(
    server: Server | Nginx, path: str, head: Head
) -> None:
    def get(wire: Wire) -> int:
        wire.head("GET", path)
        return int(wire.answer()[1]["offset"])

    def put(wire: Wire) -> int:
        head(wire, path, 0)
        wire.send(CONTENT)
        assert wire.answer()[0] in (200, 204)
        return 0

    steps = [get, get, put, get]
    told = []
    while steps:
        with Wire(server.port) as wire:
            while steps and not wire.is_last:
                told.append(steps.pop(0)(wire))
    assert told == [0, 0, 0, SIZE]
