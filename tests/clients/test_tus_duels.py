"""Two worker processes, several clients, one upload: one winner for each offset."""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.dialects.tus import BYTES, TUS
from tests.figures import figure
from tests.servers.gunicorn import Server

pytestmark = pytest.mark.slow

DUELS = figure("TUS_DUELS", 500, 10_000)
CLIENTS = 4
STEP = 20_000
LENGTH = 3 * STEP
#: Seconds in which a take-over must be answered while the client before is silent.
PROMPT = 1.0


@dataclass
class Client:
    """One connection; what it sent and what it was told."""

    server: Server
    told: list[tuple[int, bytes, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.server.port)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        kind = TUS if body is None else BYTES
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, {**kind, **named})
        response = self._connection.getresponse()
        response.body = response.read(2**20)  # type: ignore[attr-defined]
        return response

    def patch(self, path: str, offset: int, body: bytes) -> int:
        """The status; 409 where the connection was closed without one."""
        try:
            response = self.request("PATCH", path, body, Upload_Offset=str(offset))
        except (http.client.RemoteDisconnected, ConnectionError):
            # Superseded in mid-body: its reader was interrupted, its connection closed.
            self.close()
            return 409
        self.told.append((offset, body, response.status))
        return response.status

    def offset(self, path: str) -> int | None:
        try:
            response = self.request("HEAD", path)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            response = self.request("HEAD", path)
        told = response.getheader("Upload-Offset")
        return None if told is None else int(told)

    def create(self) -> str:
        response = self.request("POST", "/uploads/", Upload_Length=str(LENGTH))
        assert response.status == 201
        return urlsplit(response.getheader("Location") or "").path

    def close(self) -> None:
        self._connection.close()


def fight(client: Client, path: str, seed: int, start: threading.Barrier) -> None:
    """Append what HEAD says is missing, until it is done or gone."""
    chance = random.Random(seed)
    start.wait()
    body = bytes([chance.randrange(256)]) * STEP
    offset: int | None = 0
    for _ in range(200):
        if offset is None or offset >= LENGTH:
            return
        size = chance.choice([STEP, STEP, STEP // 2, 7])
        status = client.patch(path, offset, body[: min(size, LENGTH - offset)])
        assert status in (204, 404, 409), status
        # Giving way at random: two that always push may push each other for long.
        if status == 409:
            time.sleep(chance.random() * 0.005)
        offset = client.offset(path)
    raise AssertionError("stuck")


def duel(server: Server, number: int) -> None:
    clients = [Client(server) for _ in range(CLIENTS)]
    path = clients[0].create()
    barrier = threading.Barrier(CLIENTS)
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            fight(clients[index], path, number * CLIENTS + index, barrier)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    if number % 5 == 0:
        killer = Client(server)
        assert killer.request("DELETE", path).status in (204, 404)
        assert killer.request("HEAD", path).status == 404
        killer.close()
    for thread in threads:
        thread.join(60)
    try:
        assert not failures, failures
        if number % 5:
            check(clients, path)
        else:
            assert clients[0].request("HEAD", path).status == 404
    finally:
        for client in clients:
            client.close()


def check(clients: list[Client], path: str) -> None:
    """Every byte is of the one request that was told 204 for it."""
    won = sorted(
        (offset, body)
        for client in clients
        for offset, body, status in client.told
        if status == 204 and body
    )
    content = clients[0].request("GET", path + "/file").body  # type: ignore[attr-defined]
    assert len(content) == LENGTH
    position = 0
    for offset, body in won:
        assert offset == position, "two winners at an offset, or a gap"
        assert content[offset : offset + len(body)] == body
        position += len(body)
    # What is left was kept of requests that were superseded in mid-body.
    assert position <= LENGTH


def test_duels_have_one_winner_for_each_offset(server: Server) -> None:
    for number in range(1, DUELS + 1):
        duel(server, number)


@pytest.mark.parametrize("sent", [0, 1, 50_000, 300_000])
def test_head_takes_over_from_a_silent_client_at_once(
    server: Server, sent: int
) -> None:
    client = Client(server)
    response = client.request("POST", "/uploads/", Upload_Length="1000000")
    path = response.getheader("Location") or ""
    content = os.urandom(1_000_000)
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        silent.sendall(head.encode() + content[:sent])
        time.sleep(0.4)
        shown = client.request("GET", path)
        assert shown.status == 200
        began = time.monotonic()
        offset = client.offset(path)
        assert time.monotonic() - began < PROMPT
        assert offset == sent
        assert client.patch(path, offset, content[offset:]) == 204
    done = client.request("GET", path + "/file").body  # type: ignore[attr-defined]
    client.close()
    assert done == content
