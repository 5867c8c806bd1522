"""kill -9 of workers while clients upload: nothing acknowledged is lost, all finish."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.figures import figure, run_seed
from tests.servers.gunicorn import Server, serve

pytestmark = pytest.mark.slow

KILLS = figure("HTTP_KILLS", 200, 2_000)
TREES = figure("HTTP_TREE_KILLS", 20, 200)
CLIENTS = 4
#: Seconds that one upload may take, kills included.
PATIENCE = 60.0
KIB = 1024


@dataclass
class Uploader:
    """Uploads one file after the other until it is told to stop."""

    endpoint: str
    seed: int
    stop: threading.Event
    finished: dict[str, str] = field(default_factory=dict)
    failure: BaseException | None = None
    interrupted: int = 0

    def run(self) -> None:
        """The thread's work."""
        chance = random.Random(self.seed)
        try:
            while not self.stop.is_set():
                self._upload(chance)
        except BaseException as error:
            self.failure = error

    def _upload(self, chance: random.Random) -> None:
        content = chance.randbytes(chance.randrange(200 * KIB, 1500 * KIB))
        deadline = time.monotonic() + PATIENCE
        url, acked, offset = "", 0, 0
        while offset < len(content):
            assert time.monotonic() < deadline, "stuck"
            size = chance.choice([64 * KIB, 300 * KIB, 1000 * KIB])
            chunk = content[offset : offset + size]
            answer = self._send(url, chunk, offset, len(content), chance.random() < 0.5)
            if answer is not None:
                url, acked = str(answer["url"]), int(str(answer["offset"]))
                offset = acked
                continue
            self.interrupted += 1
            if url:
                offset = self._ask(url, deadline)
                assert offset >= acked, "an acknowledged byte is lost"
        self._complete(url, content, deadline)

    def _send(
        self, url: str, chunk: bytes, start: int, total: int, in_form: bool
    ) -> dict[str, object] | None:
        stop = start + len(chunk) - 1
        headers = {"Content-Range": f"bytes {start}-{stop}/{total}"}
        try:
            if in_form:
                answer = requests.put(
                    url or self.endpoint,
                    files={"file": ("f", chunk)},
                    headers=headers,
                    timeout=20,
                )
            else:
                answer = requests.put(
                    url or self.endpoint, data=chunk, headers=headers, timeout=20
                )
        except requests.RequestException:
            return None
        if answer.status_code in (400, 503):
            assert answer.status_code == 503 or "expected_offset" in answer.json()
            return None
        assert answer.status_code == 200, answer.text
        parsed: dict[str, object] = answer.json()
        return parsed

    def _ask(self, url: str, deadline: float) -> int:
        while True:
            assert time.monotonic() < deadline, "stuck"
            try:
                answer = requests.head(url, timeout=20)
            except requests.RequestException:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                return int(answer.headers["Upload-Offset"])
            assert answer.status_code == 503, answer.status_code

    def _complete(self, url: str, content: bytes, deadline: float) -> None:
        md5 = hashlib.md5(content).hexdigest()
        while True:
            assert time.monotonic() < deadline, "stuck"
            try:
                answer = requests.post(url, data={"md5": md5}, timeout=20)
            except requests.RequestException:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                break
            assert answer.status_code == 503, answer.text
        self.finished[str(answer.json()["id"])] = hashlib.sha256(content).hexdigest()


def check(server: Server, uploaders: list[Uploader]) -> None:
    """Every upload that finished is there, byte for byte."""
    for uploader in uploaders:
        if uploader.failure is not None:
            raise uploader.failure
    stored = {path.stem: path for path in server.finished()}
    expected = {
        name: digest
        for uploader in uploaders
        for name, digest in uploader.finished.items()
    }
    assert len(expected) >= CLIENTS
    for name, digest in expected.items():
        content = stored[name].read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


def start(endpoint: str, seed: int) -> tuple[list[Uploader], list[threading.Thread]]:
    stop = threading.Event()
    uploaders = [Uploader(endpoint, seed + i, stop) for i in range(CLIENTS)]
    threads = [threading.Thread(target=uploader.run) for uploader in uploaders]
    for thread in threads:
        thread.start()
    return uploaders, threads


def finish(uploaders: list[Uploader], threads: list[threading.Thread]) -> None:
    uploaders[0].stop.set()
    for thread in threads:
        thread.join(PATIENCE + 30)


def test_workers_are_killed_while_clients_upload(tmp_path: Path) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    with serve(tmp_path, "--preload") as server:
        uploaders, threads = start(server.url, seed)
        killed = 0
        while killed < KILLS and any(thread.is_alive() for thread in threads):
            time.sleep(chance.uniform(0.02, 0.2))
            workers = server.workers()
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
        finish(uploaders, threads)
        check(server, uploaders)
        assert killed == KILLS
        assert sum(uploader.interrupted for uploader in uploaders) > KILLS // 20


def test_the_whole_server_is_killed_while_clients_upload(tmp_path: Path) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    with serve(tmp_path, "--preload") as server:
        uploaders, threads = start(server.url, seed)
        for _ in range(TREES):
            time.sleep(chance.uniform(0.3, 1.0))
            server.kill_all()
            server.start_again()
        finish(uploaders, threads)
        check(server, uploaders)
