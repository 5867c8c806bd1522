"""Many clients at once: fast ones all finish, slow ones hold nobody else up."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.figures import run_seed, size
from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

KIB, MIB = 2**10, 2**20
#: Clients that send 20 MiB each, in chunks of 1 MiB.
PARALLEL = size("CROWD_CLIENTS", 50, 100)
CHUNKS = 20
#: Of the crowd that holds threads: silent ones, and some at 1 KiB a second.
STALLED, SLOW = 64, 200
#: Seconds for which it comes.
SOAK = size("CROWD_SECONDS", 12, 600)
#: Seconds of silence after which the server gives a body up.
TIMEOUT = 5
#: Seconds that a machine with other things to do may add for a few.
SLACK = 2.0
#: Seconds within which 99 of 100 of the fast one's files are there, on a disk that is
#: not the bottleneck.
PROMPT = 2.0


# -- fast ones -------------------------------------------------------------------------


def send_file(server: Server, seed: int, found: dict[str, str]) -> None:
    """20 chunks and a completion on one connection; every answer must be a 200."""
    block = random.Random(seed).randbytes(MIB)
    total = CHUNKS * MIB
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    url = "/uploads/"
    for number in range(CHUNKS):
        chunk = block[number:] + block[:number]
        md5.update(chunk)
        sha256.update(chunk)
        start = number * MIB
        headers = {"Content-Range": f"bytes {start}-{start + MIB - 1}/{total}"}
        shown = ask(connection, "PUT", url, chunk, headers)
        assert shown["offset"] == start + MIB
        url = f"/uploads/{shown['id']}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    ask(connection, "POST", url, f"md5={md5.hexdigest()}".encode(), form)
    found[url.rsplit("/", 1)[1]] = sha256.hexdigest()
    connection.close()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    body: bytes,
    headers: dict[str, str],
) -> dict[str, object]:
    connection.request(method, url, body, headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, (answer.status, said)
    shown: dict[str, object] = json.loads(said)
    return shown


def test_many_clients_at_once_all_finish(disk_path: Path) -> None:
    seed = run_seed()
    found: dict[str, str] = {}
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            send_file(server, seed + number, found)
        except BaseException as error:
            failures.append(error)

    with serve(disk_path, "--workers", "4") as server:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(PARALLEL)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
        assert not failures, failures[:3]
        assert len(found) == PARALLEL
        for path in server.finished():
            digest = hashlib.sha256(path.read_bytes())
            assert found.pop(path.stem) == digest.hexdigest()
        assert found == {}
        assert "locked" not in server.log


# -- slow ones -------------------------------------------------------------------------


@dataclass
class Body:
    """A body that one of the crowd sends, and what the server said to it."""

    wire: Wire
    path: str
    content: bytes
    sent: int = 0
    silent_since: float = 0.0
    waited: float | None = None
    status: int | None = None

    def send(self, count: int) -> None:
        """Some bytes more, while there are some and the server listens."""
        piece = self.content[self.sent : self.sent + count]
        if not piece or self.status is not None:
            return
        with contextlib.suppress(OSError):
            self.wire.send(piece)
            self.sent += len(piece)

    def hear(self) -> None:
        """What the server says, whenever that is."""
        with contextlib.suppress(OSError):
            self.status = self.wire.answer()[0]
        self.waited = time.monotonic() - self.silent_since


@dataclass
class Crowd:
    """Silent clients of four kinds, and slow ones."""

    server: Server
    stalled: list[Body] = field(default_factory=list)
    slow: list[Body] = field(default_factory=list)
    _connections: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def come(self, chance: random.Random, slow_size: int) -> None:
        """Everybody begins a body."""
        sizes = [100_000] * STALLED + [slow_size] * SLOW
        contents = [chance.randbytes(size) for size in sizes]
        # All before the first body, which may hold a thread.
        paths = [self._create(len(content)) for content in contents]
        bodies = [
            self._begin(path, content)
            for path, content in zip(paths, contents, strict=True)
        ]
        self.stalled, self.slow = bodies[:STALLED], bodies[STALLED:]
        for number, body in enumerate(self.stalled):
            body.send(3_000 + number)
            body.silent_since = time.monotonic()
            if number % 4 == 1:
                body.wire.fin()
            elif number % 4 == 2:
                body.wire.reset()

    def _create(self, length: int) -> str:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(length)}
        created = requests.post(self.server.url, headers=headers, timeout=60)
        return created.headers["Location"]

    def _begin(self, path: str, content: bytes) -> Body:
        wire = self._connections.enter_context(Wire(self.server.port))
        wire.head(
            "PATCH",
            path,
            Tus_Resumable="1.0.0",
            Upload_Offset=0,
            Content_Length=len(content),
            Content_Type="application/offset+octet-stream",
        )
        return Body(wire, path, content)

    def listen(self) -> list[threading.Thread]:
        """Wait for all answers, each in a thread."""
        bodies = [
            body
            for number, body in enumerate(self.stalled)
            # One that reset its connection hears nothing.
            if number % 4 != 2
        ]
        threads = [
            threading.Thread(target=body.hear, daemon=True)
            for body in (*bodies, *self.slow)
        ]
        for thread in threads:
            thread.start()
        return threads

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exception: object) -> None:
        """Everybody leaves."""
        self._connections.close()

    def check(self) -> None:
        """What is stored of everybody is what they sent."""
        for body in (*self.stalled, *self.slow):
            upload_id = body.path.rsplit("/", 1)[1]
            shown = requests.get(self.server.url + upload_id, timeout=30).json()
            offset = shown["offset"]
            assert offset <= body.sent
            files = [
                path
                for path in (self.server.tmp / "instance").rglob(f"{upload_id}.*")
                if path.suffix in (".part", ".done")
            ]
            if offset:
                (file,) = files
                assert file.read_bytes()[:offset] == body.content[:offset]


def send_fast(server: Server, until: float, least: int = 0) -> list[float]:
    """Small files one after the other, as many at least; the seconds of each."""
    content = random.Random(1).randbytes(256 * KIB)
    took: list[float] = []
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(content)),
        "Content-Type": "application/offset+octet-stream",
    }
    with requests.Session() as session:
        while time.monotonic() < until or len(took) < least:
            began = time.monotonic()
            answer = session.post(server.url, content, headers=headers, timeout=200)
            took.append(time.monotonic() - began)
            assert answer.status_code == 201
            assert answer.headers["Upload-Offset"] == str(len(content))
    return took


def sync_some_blocks(directory: Path) -> float:
    """Append blocks and sync each; seconds that one takes on this disk."""
    count = 50
    with open(directory / "blocks", "ab", buffering=0) as file:
        began = time.monotonic()
        for _ in range(count):
            file.write(bytes(4 * KIB))
            os.fdatasync(file.fileno())
        return (time.monotonic() - began) / count


@pytest.mark.alone
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--threads", str(STALLED + SLOW + 8)), id="gthread"),
        pytest.param(("--worker-class", "gevent"), id="gevent"),
    ],
)
def test_slow_clients_hold_nobody_up(tmp_path: Path, options: tuple[str, ...]) -> None:
    if "gevent" in options:
        pytest.importorskip("gevent")
    chance = random.Random(run_seed())
    settings: dict[str, Any] = {"CHUNKED_UPLOAD_READ_TIMEOUT": TIMEOUT}
    one = ("--workers", "1", *options)
    sync = sync_some_blocks(tmp_path)
    with serve(tmp_path, *one, **settings) as server, Crowd(server) as crowd:
        crowd.come(chance, (SOAK - 2) * KIB)
        crowd.listen()
        until = time.monotonic() + SOAK
        took: list[float] = []
        fast = threading.Thread(target=lambda: took.extend(send_fast(server, until)))
        fast.start()
        while time.monotonic() < until:
            for body in crowd.slow:
                body.send(KIB)
            time.sleep(max(0.0, min(1.0, until - time.monotonic())))
        fast.join(60)
        slowest = sorted(took)[int(len(took) * 0.99)]
        print(f"{len(took)} files beside the crowd, 99 of 100 within {slowest:.2f} s")
        print(f"a sync takes {1000 * sync:.1f} ms")
        # At worst each slow client has one commit before it in the disk's queue.
        assert slowest < max(PROMPT, (STALLED + SLOW) * sync)
        deadline = time.monotonic() + 2 * TIMEOUT
        while any(body.status is None for body in crowd.slow):
            assert time.monotonic() < deadline, "slow clients got no answer"
            time.sleep(0.1)
        # Slow is not silent.
        assert {body.status for body in crowd.slow} == {204}
        silent = crowd.stalled[::4] + crowd.stalled[3::4]
        assert {body.status for body in silent} == {503}
        waits = sorted(body.waited or 0.0 for body in silent)
        print(
            f"silent ones were disconnected after {waits[0]:.2f} to {waits[-1]:.2f} s"
        )
        # An answer takes what answers took at that time.
        assert waits[len(waits) // 2] < TIMEOUT + 1 + slowest
        assert waits[-1] < TIMEOUT + 1 + slowest + SLACK
        crowd.check()


def test_a_crowd_on_eight_threads_spoils_nothing(tmp_path: Path) -> None:
    chance = random.Random(run_seed())
    settings: dict[str, Any] = {
        "CHUNKED_UPLOAD_READ_TIMEOUT": 1,
        "CHUNKED_UPLOAD_MIN_RATE": "16KiB",
    }
    one = ("--workers", "1", "--threads", "8")
    with serve(tmp_path, *one, **settings) as server, Crowd(server) as crowd:
        crowd.come(chance, 120 * KIB)
        took: list[float] = []
        # It waits in the queue until all before it were given up.
        fast = threading.Thread(target=lambda: took.extend(send_fast(server, 0, 1)))
        fast.start()
        while fast.is_alive():
            for body in crowd.slow:
                body.send(KIB)
            fast.join(1)
        print(f"a file behind the crowd took {took[0]:.0f} s")
        # Each of the crowd holds a thread for two time-outs and a second at most.
        assert took[0] < (STALLED + SLOW) / 8 * (2 * 1 + 1)
        crowd.check()
