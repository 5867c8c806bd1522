"""Many small uploads from several connections at once, in one loop without threads.

Threads would wait for one another's interpreter lock and measure that.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from benchmarks.client import (
    ClientError,
    Request,
    ResponseParser,
    Source,
    open_socket,
    send,
)
from benchmarks.dialects import Conversation

#: Seconds without any answer after which the receiver is given up.
PATIENCE = 60

#: Uploads on one connection. Clients come and go: connections that stay for ever would
#: stay with the worker that was first awake, and measure how they were dealt out.
LASTING = 25


@dataclass(slots=True)
class _Talk:
    """A conversation and its connection; ``None`` where it must be opened first.

    :param left: conversations that the connection has before it after this one.
    """

    conversation: Conversation
    connection: socket.socket | None
    request: Request
    started: float
    left: int
    parser: ResponseParser = field(default_factory=ResponseParser)


class Crowd:
    """So many connections, each with one conversation after the other.

    None is open without a request under way: a worker that serves one connection at a
    time would wait on it.

    :param width: connections.
    """

    def __init__(self, port: int, source: Source, width: int) -> None:
        self._port = port
        self._source = source
        self._width = width
        self._opened: set[socket.socket] = set()
        self._talks: dict[int, _Talk] = {}
        self._poll = select.epoll()

    def run(self, conversations: Iterator[Conversation]) -> list[float]:
        """Talk all through; seconds of each.

        :raises ClientError: a receiver is silent, or answers otherwise than it should.
        """
        seconds: list[float] = []
        try:
            for conversation in islice(conversations, self._width):
                self._begin(conversation)
            while self._talks:
                events = self._poll.poll(PATIENCE)
                if not events:
                    raise ClientError(f"{len(self._talks)} requests have no answer")
                for number, _ in events:
                    done = self._receive(self._talks[number])
                    if done is None:
                        continue
                    seconds.append(time.perf_counter() - done.started)
                    following = next(conversations, None)
                    if following is None or not done.left:
                        self._close_connection(done)
                    if following is not None:
                        self._begin(following, done)
        finally:
            for connection in self._opened:
                connection.close()
            self._poll.close()
        return seconds

    def _begin(self, conversation: Conversation, before: _Talk | None = None) -> None:
        """Send its first request.

        :param before: whose connection it goes on with, if that is open.
        """
        started = time.perf_counter()
        connection, left = None, LASTING
        if before is not None and before.connection is not None:
            connection, left = before.connection, before.left
        request = next(conversation)
        self._send(_Talk(conversation, connection, request, started, left - 1))

    def _send(self, talk: _Talk) -> None:
        if talk.connection is None:
            talk.connection = open_socket(self._port)
            self._opened.add(talk.connection)
        send(talk.connection, talk.request, self._source)
        number = talk.connection.fileno()
        self._talks[number] = talk
        self._poll.register(number, select.EPOLLIN)

    def _receive(self, talk: _Talk) -> _Talk | None:
        """Take what there is to read; the talk, if it is over."""
        assert talk.connection is not None
        response = talk.parser.feed(talk.connection.recv(64 * 1024))
        if response is None:
            return None
        number = talk.connection.fileno()
        self._poll.unregister(number)
        del self._talks[number]
        if response.closes:
            self._close_connection(talk)
        try:
            talk.request = talk.conversation.send(response)
        except StopIteration:
            return talk
        self._send(talk)
        return None

    def _close_connection(self, talk: _Talk) -> None:
        if talk.connection is not None:
            self._opened.discard(talk.connection)
            talk.connection.close()
            talk.connection = None
