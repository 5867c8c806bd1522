"""A network that fails in every way between a client and nine servers.

The client knows its file and the URL, and asks where it stands after every failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests

from tests.figures import figure, run_seed
from tests.servers.gunicorn import Server
from tests.servers.others import Nginx
from tests.servers.proxy import Fault, Proxy, proxied
from tests.servers.test_matrix import SIZE, kind, server

__all__ = ["kind", "server"]

pytestmark = pytest.mark.slow

#: Faults of each kind, and how many of them one file has to get through.
FAULTS = figure("NETWORK_FAULTS", 4, 100)
ONE_FILE = 4
#: Bytes of a request's body while there are faults, which strike somewhere in it.
CHUNK = 30_000
#: Bytes per second of a slow connection.
RATE = 200_000
HOWS = ("fin", "rst", "stall", "vanish", "lose", "slow")
#: Seconds that the client waits for an answer before it asks again.
PATIENCE = 0.7
#: Seconds that one file may take.
DEADLINE = 60 + ONE_FILE * len(HOWS) * 3


@dataclass
class Client:
    """Uploads one file through anything."""

    proxy: Proxy
    path: str
    content: bytes
    append: Callable[[Client, int, bytes], None]
    direct: str
    acked: int = 0

    @property
    def url(self) -> str:
        """Through the network that fails."""
        return f"http://127.0.0.1:{self.proxy.port}{self.path}"

    def run(self) -> None:
        """Until all of it is there."""
        deadline = time.monotonic() + DEADLINE
        while self.acked < len(self.content):
            assert time.monotonic() < deadline, f"stuck at {self.acked}"
            try:
                self._ask()
                size = CHUNK if self.proxy.faults else len(self.content)
                self.append(self, self.acked, self.content[self.acked :][:size])
            except requests.RequestException:
                continue

    def _ask(self) -> None:
        answer = requests.head(
            self.direct, headers={"Tus-Resumable": "1.0.0"}, timeout=10
        )
        # A proxy may answer for a server that has closed the connection.
        if answer.status_code in (502, 503, 504):
            return
        assert answer.status_code == 200, answer.status_code
        offset = int(answer.headers["Upload-Offset"])
        assert offset >= self.acked, "an acknowledged byte is gone"
        self.acked = offset


def put(client: Client, offset: int, chunk: bytes) -> None:
    stop = offset + len(chunk)
    answer = requests.put(
        client.url,
        data=chunk,
        headers={"Content-Range": f"bytes {offset}-{stop - 1}/{len(client.content)}"},
        timeout=PATIENCE,
    )
    assert answer.status_code in (200, 400, 502, 503, 504), answer.text
    if answer.status_code == 200:
        assert answer.json()["offset"] >= stop
        client.acked = stop


def patch(client: Client, offset: int, chunk: bytes) -> None:
    answer = requests.patch(
        client.url,
        data=chunk,
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        },
        timeout=PATIENCE,
    )
    assert answer.status_code in (204, 400, 409, 502, 503, 504), answer.text
    if answer.status_code == 204:
        client.acked = int(answer.headers["Upload-Offset"])


@pytest.fixture
def proxy(server: Server | Nginx) -> Iterator[Proxy]:
    with proxied(server.port) as running:
        yield running


@pytest.mark.parametrize("append", [put, patch])
def test_a_client_gets_its_file_through_every_fault(
    server: Server | Nginx,
    proxy: Proxy,
    append: Callable[[Client, int, bytes], None],
) -> None:
    chance = random.Random(run_seed())
    # One that its client does not wait for, as a machine with much to do is slow, has
    # not struck.
    for _ in range(2 * FAULTS // ONE_FILE):
        left = [how for how in HOWS if proxy.struck[how] < FAULTS]
        if left:
            upload_one(server, proxy, chance, append, left)
    assert {how for how in HOWS if proxy.struck[how] < FAULTS} == set()
    # Whoever comes next is served at once, whatever still waits for a lost client.
    began = time.monotonic()
    assert requests.get(server.url, timeout=10).status_code == 200
    assert time.monotonic() - began < 5


def upload_one(
    server: Server | Nginx,
    proxy: Proxy,
    chance: random.Random,
    append: Callable[[Client, int, bytes], None],
    hows: list[str],
) -> None:
    """A file, through so many faults of each of these kinds."""
    content = chance.randbytes(SIZE)
    created = requests.post(
        server.url,
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(SIZE)},
        timeout=10,
    )
    path = created.headers["Location"]
    upload_id = path.rsplit("/", 1)[1]
    proxy.faults = [
        # Behind the head of the request, and before the end of its body.
        Fault(how, chance.randrange(600, CHUNK // 2), RATE if how == "slow" else None)
        for how in hows
        for _ in range(ONE_FILE)
    ]
    chance.shuffle(proxy.faults)
    Client(proxy, path, content, append, server.url + upload_id).run()
    (file,) = (
        found
        for found in (server.tmp / "instance").rglob(f"{upload_id}.*")
        if found.suffix in (".part", ".done")
    )
    assert file.read_bytes() == content
