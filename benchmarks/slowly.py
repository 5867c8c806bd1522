"""Slow clients in a process of their own, so that they take no turns from the fast one.

``python -m benchmarks.slowly PORT PREFIX CLIENTS RATE``: each begins a tus upload;
together they send RATE bytes a second until standard input ends. Says ``ready`` when
all have sent their first bytes, and at the end how many bytes in all.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from dataclasses import dataclass

from benchmarks.client import (
    MIB,
    ClientError,
    Connection,
    Request,
    Slice,
    Source,
    open_socket,
)
from benchmarks.dialects import Job, expect, tus

#: Bytes that each upload declares; more than it will ever send.
DECLARED = 64 * MIB


@dataclass(frozen=True, slots=True)
class Slow:
    """A slow client's connection.

    :param since: monotonic time of its first bytes of content.
    """

    connection: socket.socket
    since: float


def begin(port: int, prefix: str, clients: int, early: int) -> list[Slow]:
    """Connections that have each sent the head of a PATCH and its first bytes."""
    opened = []
    with Source(MIB) as source, Connection(port, source) as connection:
        first_bytes = source.read(Slice(0, early))
        for number in range(clients):
            talk = tus(Job(source, prefix, DECLARED, number=number))
            created = expect(connection.exchange(next(talk)), 201)
            patch: Request = talk.send(created)
            talk.close()
            slow = open_socket(port)
            slow.sendall(patch.head() + first_bytes)
            opened.append(Slow(slow, time.monotonic()))
    return opened


def answered(waiting: list[Slow], seconds: float) -> list[Slow]:
    """Those that have an answer, or an end, to read within so many seconds."""
    poll = select.poll()
    by_number = {one.connection.fileno(): one for one in waiting}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]


def silent_seconds(
    port: int, prefix: str, clients: int, patience: float
) -> list[float]:
    """Seconds after its last byte until each silent client has an answer.

    :raises ClientError: one has none in time.
    """
    waiting = begin(port, prefix, clients, 1000)
    deadline = time.monotonic() + patience
    freed = []
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ClientError(f"{len(waiting)} silent clients were never answered")
        for one in answered(waiting, left):
            freed.append(time.monotonic() - one.since)
            waiting.remove(one)
            one.connection.close()
    return freed


def main() -> None:
    """Trickle until told to stop."""
    port, clients, rate = int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    each = max(1, rate // clients)  # a second
    opened = begin(port, sys.argv[2], clients, each)
    print("ready", flush=True)
    payload = bytes(each)
    told = select.poll()
    told.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    started, turns = time.monotonic(), 0
    while not told.poll(0):
        opened[turns % clients].connection.sendall(payload)
        turns += 1
        time.sleep(max(0.0, started + turns / clients - time.monotonic()))
    lost = len(answered(opened, 0))
    print(each * (clients + turns), time.monotonic() - started, lost, flush=True)
    for one in opened:
        one.connection.close()


if __name__ == "__main__":
    main()
