"""Clients that upload while their server suffers, and what they hold against it.

Each is an owner of its own; beside them a stranger tries every door, and the memory of
the workers is watched.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import requests
from flask import Flask, request

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.verification import STALE
from tests.faults.outside import (
    Answer,
    Answers,
    broken_memory,
    broken_privacy,
    own_memory,
)
from tests.servers.gunicorn import Server
from tests.servers.gunicorn import create_app as create_plain_app

OWNER = "X-Owner"
#: For gunicorn: the tests' application, where a header tells the owner.
APP = "tests.servers.uploaders:create_app()"
CLIENTS = 4
#: Seconds that one upload may take, faults included. A verification whose process or
#: database went away is repeated only when it is stale.
PATIENCE = 60.0 + STALE.total_seconds()
#: Seconds that a client waits before it comes again.
PAUSE = 0.02
KIB = 1024
#: Id -> what reads the bytes of a finished upload.
Stored = Mapping[str, Callable[[], bytes]]


class Owned(ChunkedUploadBlueprint):
    """Believes a header."""

    def get_user_id(self) -> object:
        return request.headers.get(OWNER)

    def verify(self, upload: Any) -> None:
        """Look at the row through the application's session."""
        assert upload.status

    def on_completion(self, upload: Any) -> None:
        """Once more, for the answer."""
        assert upload.status


def create_app() -> Flask:
    """The tests' application with owners."""
    # It tells of each lost connection with a traceback, which we look for in the log.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    return create_plain_app(Owned)


@dataclass
class Uploader:
    """Uploads one file after the other until it is told to stop."""

    endpoint: str
    name: str
    seed: int
    stop: threading.Event
    answers: Answers
    finished: dict[str, str] = field(default_factory=dict)
    failure: BaseException | None = None
    interrupted: int = 0
    #: Of the upload that it is at; empty between two.
    url: str = ""

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
        self.url, acked, offset = "", 0, 0
        while offset < len(content):
            assert time.monotonic() < deadline, "I5: stuck"
            size = chance.choice([64 * KIB, 300 * KIB, 1000 * KIB])
            chunk = content[offset : offset + size]
            answer = self._send(chunk, offset, len(content), chance.random() < 0.5)
            if answer is not None:
                self.url, acked = str(answer["url"]), int(str(answer["offset"]))
                offset = acked
                continue
            self.interrupted += 1
            time.sleep(PAUSE)
            if self.url:
                head = self._until("HEAD", deadline)
                offset = int(head.headers["Upload-Offset"])
                assert offset >= acked, "I1: an acknowledged byte is lost"
        md5 = hashlib.md5(content).hexdigest()
        done = self._until("POST", deadline, data={"md5": md5})
        self.finished[str(done.json()["id"])] = hashlib.sha256(content).hexdigest()

    def _send(
        self, chunk: bytes, start: int, total: int, in_form: bool
    ) -> dict[str, object] | None:
        stop = start + len(chunk) - 1
        headers = {"Content-Range": f"bytes {start}-{stop}/{total}"}
        body: dict[str, Any] = {"data": chunk}
        if in_form:
            body = {"files": {"file": ("f", chunk)}}
        answer = self._ask("PUT", self.url or self.endpoint, headers=headers, **body)
        if answer is None or answer.status_code == 503:
            return None
        if answer.status_code == 400:
            assert "expected_offset" in answer.json(), answer.text
            return None
        assert answer.status_code == 200, answer.text
        parsed: dict[str, object] = answer.json()
        return parsed

    def _until(self, method: str, deadline: float, **body: Any) -> requests.Response:
        while True:
            assert time.monotonic() < deadline, "I5: stuck"
            answer = self._ask(method, self.url, **body)
            if answer is not None and answer.status_code == 200:
                return answer
            assert answer is None or answer.status_code == 503, answer.text
            time.sleep(PAUSE)

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> requests.Response | None:
        named = {**(headers or {}), OWNER: self.name}
        try:
            answer = requests.request(method, url, headers=named, timeout=20, **body)
        except requests.RequestException:
            return None
        self.answers.hear(f"{method} {url}", _seen(answer))
        return answer


def _seen(answer: requests.Response) -> Answer:
    return Answer(answer.status_code, dict(answer.headers), answer.content)


class Crowd:
    """The uploaders of one server, the stranger, and who watches its memory."""

    def __init__(
        self, server: Server, seed: int, stored: Callable[[], Stored] | None
    ) -> None:
        self._server = server
        self._stored = self._on_disk if stored is None else stored
        self._stop = threading.Event()
        self.answers = Answers()
        self.problems: list[str] = []
        self.uploaders = [
            Uploader(server.url, f"owner-{i}", seed + i, self._stop, self.answers)
            for i in range(CLIENTS)
        ]
        self._probes = 0
        works: list[Callable[[], None]] = [one.run for one in self.uploaders]
        self._threads = [threading.Thread(target=work) for work in works]
        self._watcher = threading.Thread(target=self._watch)

    @property
    def is_busy(self) -> bool:
        """Is any uploader still at work?"""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def interrupted(self) -> int:
        """Requests that were cut or refused for now."""
        return sum(uploader.interrupted for uploader in self.uploaders)

    @property
    def finished(self) -> dict[str, str]:
        """Id -> SHA-256 of the uploads that clients were told to be complete."""
        return {
            name: digest
            for uploader in self.uploaders
            for name, digest in uploader.finished.items()
        }

    def start(self) -> None:
        """Begin."""
        for thread in (*self._threads, self._watcher):
            thread.start()

    def finish(self) -> None:
        """Let each come to the end of its upload, and hold what must hold."""
        self._stop.set()
        for thread in (*self._threads, self._watcher):
            thread.join(PATIENCE + 30)
        for uploader in self.uploaders:
            if uploader.failure is not None:
                raise uploader.failure
        problems = self.problems + self.answers.problems
        assert not problems, problems[:5]
        assert self._probes, "the stranger came too late"
        stored = self._stored()
        assert len(self.finished) >= CLIENTS
        for name, digest in self.finished.items():
            assert hashlib.sha256(stored[name]()).hexdigest() == digest, f"I3: {name}"

    def _on_disk(self) -> Stored:
        return {path.stem: path.read_bytes for path in self._server.finished()}

    def _watch(self) -> None:
        """The stranger, and the watch on memory."""
        chance = random.Random(0)
        while not self._stop.wait(0.2):
            url = chance.choice(self.uploaders).url
            if url:
                foreign = UUID(url.rpartition("/")[2])
                self.problems += broken_privacy(self._stranger, "/uploads", foreign)
                self._probes += 1
            with suppress(ProcessLookupError):
                baseline = own_memory(self._server.pid)
                for pid in self._server.workers():
                    self.problems += broken_memory(pid, baseline, CLIENTS + 1)

    def _stranger(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        named = {**headers, OWNER: "stranger"}
        url = f"{self._server.origin}{path}"
        try:
            got = requests.request(method, url, headers=named, data=body, timeout=20)
        except requests.RequestException:
            return None
        answer = _seen(got)
        self.answers.hear(f"stranger's {method} {path}", answer)
        return answer


@contextmanager
def crowd(
    server: Server, seed: int, stored: Callable[[], Stored] | None = None
) -> Iterator[Crowd]:
    """Clients at work for the length of the block; all is checked at its end.

    :param stored: finds what is finished; default: files of the server.
    """
    clients = Crowd(server, seed, stored)
    clients.start()
    try:
        yield clients
    finally:
        clients.finish()
    print(f"answers {dict(clients.answers.statuses)}")
