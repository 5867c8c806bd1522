"""TLS ended by gunicorn itself: its sockets cannot be polled, and streams are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

SIZE = 3_000_000
CONTENT = os.urandom(SIZE)
#: A read that does not come to its end takes what it had with it.
ONE_READ = 2**20
TIMEOUT = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    tmp: Path = tmp_path_factory.mktemp("tls")
    key, certificate = str(tmp / "key.pem"), str(tmp / "certificate.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    options = ("--keyfile", key, "--certfile", certificate)
    with serve(tmp, *options, CHUNKED_UPLOAD_READ_TIMEOUT=TIMEOUT) as running:
        yield running


def create(wire: Wire) -> str:
    wire.head("POST", "/uploads/", Tus_Resumable="1.0.0", Upload_Length=SIZE)
    assert wire.answer()[0] == 201
    return "/uploads/" + wire.fields["location"].rsplit("/", 1)[1]


def patch(wire: Wire, path: str, start: int, stop: int) -> None:
    """The head of a PATCH for all that is left, and bytes up to ``stop``."""
    wire.head(
        "PATCH",
        path,
        Tus_Resumable="1.0.0",
        Upload_Offset=start,
        Content_Length=SIZE - start,
        Content_Type="application/offset+octet-stream",
    )
    wire.send(CONTENT[start:stop])


def offset(server: Server, path: str) -> int:
    with Wire(server.port, tls=True) as wire:
        wire.head("GET", path)
        return int(wire.answer()[1]["offset"])


def finish(server: Server, path: str) -> None:
    with Wire(server.port, tls=True) as wire:
        wire.head("HEAD", path, Tus_Resumable="1.0.0")
        status, _ = wire.answer()
        assert status == 200
        patch(wire, path, int(wire.fields["upload-offset"]), SIZE)
        assert wire.answer()[0] == 204
    files = (server.tmp / "instance").rglob(f"{path.rsplit('/', 1)[1]}.done")
    assert [file.read_bytes() == CONTENT for file in files] == [True]


def test_a_body_arrives_and_the_connection_goes_on(server: Server) -> None:
    with Wire(server.port, tls=True) as wire:
        for _ in range(2):
            path = create(wire)
            patch(wire, path, 0, SIZE)
            assert wire.answer()[0] == 204
            wire.head("GET", path)
            assert wire.answer()[1]["offset"] == SIZE


def test_a_cut_body_keeps_what_was_read(server: Server) -> None:
    with Wire(server.port, tls=True) as wire:
        path = create(wire)
        patch(wire, path, 0, 2_000_000)
        deadline = time.monotonic() + 10
        while offset(server, path) < 2_000_000 - ONE_READ:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        wire.reset()
    finish(server, path)


def test_a_silent_client_is_given_up(server: Server) -> None:
    with Wire(server.port, tls=True) as wire:
        path = create(wire)
        patch(wire, path, 0, 1000)
        began = time.monotonic()
        try:
            status, _ = wire.answer()
            assert status == 503
        except (ConnectionError, OSError):
            pass
        assert time.monotonic() - began < TIMEOUT + 2
    finish(server, path)
