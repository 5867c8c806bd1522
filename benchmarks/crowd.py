"""Many small uploads from several connections at once, in one loop without threads.

Threads would wait for one another's interpreter lock and measure that.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.client import (
    PATIENCE,
    ClientError,
    Request,
    ResponseParser,
    Source,
    open_socket,
    send,
)
from benchmarks.dialects import Conversation


@dataclass(slots=True)
class _Talk:
    """What one connection is at."""

    connection: socket.socket
    conversation: Conversation
    request: Request
    started: float
    parser: ResponseParser = field(default_factory=ResponseParser)


class Crowd:
    """So many connections, each with one conversation after the other.

    :param width: connections.
    """

    def __init__(self, port: int, source: Source, width: int) -> None:
        self._port = port
        self._source = source
        self._opened: list[socket.socket] = []
        self._idle = [self._open() for _ in range(width)]
        self._talks: dict[int, _Talk] = {}
        self._poll = select.epoll()

    def run(self, conversations: Iterator[Conversation]) -> list[float]:
        """Talk all through; seconds of each.

        :raises ClientError: a receiver is silent, or answers otherwise than it should.
        """
        seconds: list[float] = []
        try:
            while self._idle:
                conversation = next(conversations, None)
                if conversation is None:
                    break
                self._begin(self._idle.pop(), conversation)
            while self._talks:
                events = self._poll.poll(PATIENCE)
                if not events:
                    raise ClientError(f"{len(self._talks)} requests have no answer")
                for number, _ in events:
                    done = self._receive(number)
                    if done is None:
                        continue
                    seconds.append(time.perf_counter() - done.started)
                    following = next(conversations, None)
                    if following is not None:
                        self._begin(done.connection, following)
        finally:
            self._close()
        return seconds

    def _open(self) -> socket.socket:
        connection = open_socket(self._port)
        self._opened.append(connection)
        return connection

    def _begin(self, connection: socket.socket, conversation: Conversation) -> None:
        started = time.perf_counter()
        talk = _Talk(connection, conversation, next(conversation), started)
        self._send(talk)

    def _send(self, talk: _Talk) -> None:
        send(talk.connection, talk.request, self._source)
        number = talk.connection.fileno()
        self._talks[number] = talk
        self._poll.register(number, select.EPOLLIN)

    def _receive(self, number: int) -> _Talk | None:
        """Take what there is to read; the talk, if it is over."""
        talk = self._talks[number]
        response = talk.parser.feed(talk.connection.recv(64 * 1024))
        if response is None:
            return None
        self._poll.unregister(number)
        del self._talks[number]
        if response.closes:
            talk.connection.close()
            self._opened.remove(talk.connection)
            talk.connection = self._open()
        try:
            talk.request = talk.conversation.send(response)
        except StopIteration:
            return talk
        self._send(talk)
        return None

    def _close(self) -> None:
        for connection in self._opened:
            connection.close()
        self._poll.close()
