"""Forms that arrive in pieces over a real socket: every byte is right."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from tests.figures import figure, run_seed
from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

#: Forms in all; each is split in one way.
SPLITS = figure("FORM_SPLITS", 2_000, 20_000)
#: Connections at once.
CONNECTIONS = 8
#: Seconds after which the server has read what was sent.
PAUSE = 0.002
BOUNDARY = "----WebKitFormBoundary0123456789abcdef"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
MARKER = f"--{BOUNDARY}".encode()
END = b"\r\n" + MARKER + b"--\r\n"

#: Contents that look like the end of their part, and some that take several reads.
CONTENTS = (
    b"x",
    b"\r\n",
    b"x\r\n--",
    b"\r\n" + MARKER[:-1],
    b"a\n" + MARKER + b"\nb",
    bytes(range(256)) * 2,
    b"\r" * 9_000,
    random.Random(0).randbytes(20_000),
    b"\r\n--" * 8_000,
)


def form_of(content: bytes) -> bytes:
    """A whole file in a form, with its MD5."""
    disposition = b"\r\nContent-Disposition: form-data; "
    md5 = hashlib.md5(content).hexdigest().encode()
    field = MARKER + disposition + b'name="md5"\r\n\r\n' + md5 + b"\r\n"
    head = disposition + b'name="file"; filename="a.bin"\r\n'
    kind = b"Content-Type: application/octet-stream\r\n\r\n"
    return field + MARKER + head + kind + content + END


def ways(body: bytes) -> list[tuple[int, ...]]:
    """Every place around the last boundary, and the heads, where a read may end."""
    around_end = range(len(body) - len(END) - 4, len(body))
    heads = range(1, min(300, len(body)))
    ends = [(at,) for at in (*around_end, *heads)]
    return ends + [(at, at + 1) for at in around_end[:-1]]


def plan(seed: int) -> list[tuple[bytes, tuple[int, ...]]]:
    """Contents, and the places at which their forms are split."""
    drawn = random.Random(seed)
    last_boundary: list[tuple[bytes, tuple[int, ...]]] = []
    others: list[tuple[bytes, tuple[int, ...]]] = []
    for content in CONTENTS:
        body = form_of(content)
        for places in ways(body):
            near_end = places[0] >= len(body) - len(END) - 4
            (last_boundary if near_end else others).append((content, places))
    drawn.shuffle(others)
    found = (last_boundary + others)[:SPLITS]
    while len(found) < SPLITS:
        content = drawn.choice(CONTENTS)
        size = len(form_of(content))
        drawn_places = drawn.sample(range(1, size), drawn.randint(1, 4))
        found.append((content, tuple(sorted(drawn_places))))
    return found


def send(wire: Wire, content: bytes, places: tuple[int, ...]) -> UUID:
    """Send one form in pieces; the id of its upload."""
    body = form_of(content)
    wire.head("POST", "/uploads/", Content_Type=KIND, Content_Length=len(body))
    for start, stop in zip((0, *places), (*places, len(body)), strict=True):
        time.sleep(PAUSE)
        wire.send(body[start:stop])
    status, answer = wire.answer()
    assert status == 200, (places, answer)
    return UUID(answer["id"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp: Path = tmp_path_factory.mktemp("server")
    with serve(tmp, CHUNKED_UPLOAD_DURABLE=False) as running:
        yield running


def test_every_split_of_a_form_stores_every_byte(server: Server) -> None:
    forms = plan(run_seed())

    def send_some(first: int) -> dict[UUID, bytes]:
        found = {}
        with Wire(server.port) as wire:
            for content, places in forms[first::CONNECTIONS]:
                found[send(wire, content, places)] = content
        return found

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        sent = [
            pair
            for found in pool.map(send_some, range(CONNECTIONS))
            for pair in found.items()
        ]
    assert len(sent) == SPLITS
    files = {UUID(path.stem): path for path in server.finished()}
    for upload_id, content in sent:
        assert files[upload_id].read_bytes() == content
