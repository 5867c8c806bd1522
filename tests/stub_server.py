"""A server that answers as it is told, and a clock, for clients that stop or wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Requests after which a client counts as one that never stops.
LIMIT = 300


@dataclass(frozen=True)
class Answer:
    """What a request is answered; ``STUB-URL`` in the body is the server's."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Endless(Exception):
    """A client looked at the clock too often."""


class StoppedClock:
    """Stands for ``time`` where time passes in pauses only."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Seconds of each pause.
        self.pauses: list[float] = []
        self._looks = 0

    def monotonic(self) -> float:
        """The time now.

        :raises Endless: it does not pass.
        """
        self._looks += 1
        if self._looks > 10 * LIMIT:
            raise Endless
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now += seconds


class StubServer:
    """A server on a free port that keeps nothing.

    :param answers: the answers to each method, in turn; the last one stays. After
        ``LIMIT`` requests all are refused.
    """

    def __init__(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        self.counts: Counter[str] = Counter()
        self._answers = answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/uploads/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Answer no more; may be called twice."""
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _next(self, method: str) -> Answer:
        self.counts[method] += 1
        if self.counts.total() > LIMIT:
            return Answer(410)
        listed = self._answers[method]
        return listed[min(self.counts[method], len(listed)) - 1]

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = stub._next(self.command)
                self.send_response(answer.status)
                body = answer.body.replace(b"STUB-URL", stub.url.encode())
                body = b"" if self.command == "HEAD" else body
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_PUT = do_POST = _answer

            def log_message(self, *arguments: object) -> None:
                """Nothing is said."""

        return Handler


@contextmanager
def answering(**answers: Answer | Sequence[Answer]) -> Iterator[StubServer]:
    """A stub server for the length of the block.

    :param answers: of each method, one or several in turn.
    """
    server = StubServer(
        {
            method: [told] if isinstance(told, Answer) else list(told)
            for method, told in answers.items()
        }
    )
    try:
        yield server
    finally:
        server.close()
