"""The work of the large files: one upload on one connection, timed by its parts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.client import MIB, ClientError, Connection, Slice, Source
from benchmarks.dialects import Conversation, Dialect, Job
from benchmarks.figures import Sample
from benchmarks.measure import Turn
from benchmarks.receivers import Server

#: Bytes of the upload that warms a receiver up.
SMALL = 64 * 1024


@dataclass(slots=True)
class Lap:
    """Seconds of one upload.

    :param create: requests that bring no content.
    :param transfer: first byte of content sent to last answer for content.
    :param finish: the request that completes.
    :param total: first byte of content sent to the very last answer.
    :param each: of every request with content.
    """

    create: float = 0.0
    transfer: float = 0.0
    finish: float = 0.0
    total: float = 0.0
    each: list[float] = field(default_factory=list)


def converse(connection: Connection, conversation: Conversation) -> Lap:
    """Talk an upload through; the connection is open already."""
    lap = Lap()
    connection.open()
    first: float | None = None
    request = next(conversation)
    while True:
        started = time.perf_counter()
        response = connection.exchange(request)
        ended = time.perf_counter()
        if request.part == "create":
            lap.create += ended - started
        elif request.part == "finish":
            lap.finish += ended - started
        else:
            first = started if first is None else first
            lap.transfer = ended - first
            lap.each.append(ended - started)
        if first is not None:
            lap.total = ended - first
        try:
            request = conversation.send(response)
        except StopIteration:
            return lap


def upload(
    dialect: Dialect, length: int, chunk: int = 0, *, digest: str = ""
) -> Callable[[Turn], Sample]:
    """One upload of so many bytes.

    :param chunk: bytes of a request's content; 0: all in one.
    :param digest: that the dialect sends; computed before the clock runs.
    """

    def work(turn: Turn) -> Sample:
        size = min(SMALL, length) if turn.is_warm_up else length
        step = min(chunk, size)
        server = turn.server
        job = Job(turn.source, server.receiver.prefix, size, step, turn.serial)
        if digest:
            turn.source.digest(digest, job.content)
        server.processes.forget_peak()
        before = server.processes.cpu_seconds()
        with Connection(server.port, turn.source) as connection:
            lap = converse(connection, dialect(job))
        cpu = server.processes.cpu_seconds() - before
        peak = server.processes.memory("VmHWM")
        check(server, turn.source, size, thorough=turn.number == 0)
        server.forget_files()
        return {
            "mib_s": size / MIB / lap.transfer,
            "total_mib_s": size / MIB / lap.total,
            "create_ms": lap.create * 1000,
            "transfer_s": lap.transfer,
            "finish_ms": lap.finish * 1000,
            "total_s": lap.total,
            "cpu_s": cpu,
            "peak_mib": max(peak.values()),
            "above_mib": max(
                now - server.idle.get(pid, now) for pid, now in peak.items()
            ),
        }

    return work


def check(
    server: Server, source: Source, size: int, *, thorough: bool, count: int = 1
) -> None:
    """Nothing that is wrong is fast.

    :param size: of each file, which begins where the source does.
    :param thorough: compare the content as well.
    :param count: of the files.
    :raises ClientError: other files than these, or other bytes in them.
    """
    if not server.receiver.content:
        return
    stored = server.stored()
    found = [path.stat().st_size for path in stored]
    if found != [size] * count:
        raise ClientError(
            f"stored {len(found)} files of {sorted(set(found))[:5]} bytes, "
            f"not {count} of {size}"
        )
    if not thorough:
        return
    sent = source.digest("sha256", Slice(0, size))
    if any(sha256(path) != sent for path in stored):
        raise ClientError("the stored bytes are not those that were sent")


def sha256(path: Path) -> str:
    """Digest of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()
