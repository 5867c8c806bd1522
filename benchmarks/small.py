"""Many uploads of 4 KiB: what a request costs when its bytes cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.client import MIB, ClientError
from benchmarks.crowd import Crowd
from benchmarks.dialects import Dialect, Job, content_range, tus, tus_at_once
from benchmarks.figures import Goal, Sample, percentile
from benchmarks.large import sha256
from benchmarks.measure import Case, Column, Plan, Turn
from benchmarks.options import Options
from benchmarks.receivers import Receiver, floor, original, ours, tus_server

#: Bytes of an upload, and connections at once.
SIZE = 4096
WIDTH = 8

#: Bytes of different content.
CONTENT = 8 * MIB

RATE = Column("uploads_s", "uploads/s", 0)


def many(
    dialect: Dialect, uploads: int, *, digest: str = ""
) -> Callable[[Turn], Sample]:
    """So many uploads on eight connections.

    :param digest: that the dialect sends; computed before the clock runs.
    """

    def work(turn: Turn) -> Sample:
        server = turn.server
        count = WIDTH if turn.is_warm_up else uploads
        prefix = server.receiver.prefix
        jobs = [
            Job(
                turn.source,
                prefix,
                SIZE,
                number=turn.serial * uploads + number,
                start=number * SIZE % CONTENT,
            )
            for number in range(count)
        ]
        if digest:
            for job in jobs:
                turn.source.digest(digest, job.content)
        server.stored_since()
        crowd = Crowd(server.port, turn.source, WIDTH)
        client = time.process_time()
        before = server.processes.cpu_seconds()
        started = time.perf_counter()
        seconds = crowd.run(dialect(job) for job in jobs)
        wall = time.perf_counter() - started
        cpu = server.processes.cpu_seconds() - before
        client = time.process_time() - client
        check(turn, jobs, thorough=turn.number == 0)
        # The files stay: for minutes ext4 looks at each removed inode again before it
        # gives out another, and thousands were then half of what a new file costs.
        return {
            "uploads_s": count / wall,
            "cpu_ms": cpu / count * 1000,
            "p50_ms": percentile(seconds, 50) * 1000,
            "p99_ms": percentile(seconds, 99) * 1000,
            "client_cpu_ms": client / count * 1000,
        }

    return work


def check(turn: Turn, jobs: list[Job], *, thorough: bool) -> None:
    """Every upload is there, once; unless the receiver keeps none.

    :param thorough: compare the content as well.
    :raises ClientError: too few or too many files, wrong sizes or wrong bytes.
    """
    if not turn.server.receiver.content:
        return
    stored = turn.server.stored_since()
    sizes = {path.stat().st_size for path in stored}
    if len(stored) != len(jobs) or sizes != {SIZE}:
        raise ClientError(f"stored {len(stored)} files of {sizes} bytes")
    if not thorough:
        return
    sent = sorted(turn.source.digest("sha256", job.content) for job in jobs)
    if sorted(map(sha256, stored)) != sent:
        raise ClientError("the stored bytes are not those that were sent")


def small(options: Options) -> Plan:
    """Uploads of 4 KiB on eight connections, two workers."""
    count = options.uploads
    raw = content_range(form=False, digest="md5")
    form = content_range(form=True, digest="md5")
    # gunicorn's worker classes: threads, greenlets, and one request at a time.
    kinds: dict[str, dict[str, Any]] = {
        "ours": {"threads": options.threads},
        "ours, gevent": {"worker_class": "gevent"},
        "ours, sync": {"worker_class": "sync"},
    }
    mine: dict[str, Receiver] = {}
    for durable, suffix in ((False, ""), (True, ", durable")):
        for kind, how in kinds.items():
            name = kind + suffix
            mine[name] = ours(name, workers=2, durable=durable, **how)
    node, drf = tus_server(), original(workers=2)
    nothing = floor(workers=2, threads=options.threads)
    cases = []
    for name, server in mine.items():
        cases += [
            Case(f"{name}, tus", server, many(tus, count)),
            Case(f"{name}, tus at once", server, many(tus_at_once, count)),
            Case(f"{name}, raw + MD5", server, many(raw, count, digest="md5")),
            Case(f"{name}, form + MD5", server, many(form, count, digest="md5")),
        ]
    cases += [
        Case("@tus/server", node, many(tus, count)),
        Case("@tus/server, at once", node, many(tus_at_once, count)),
        Case("original, form + MD5", drf, many(form, count, digest="md5")),
        Case("Flask alone, tus", nothing, many(tus, count)),
        Case("Flask alone, tus at once", nothing, many(tus_at_once, count)),
    ]
    goals = []
    for name in mine:
        goals += [
            Goal("uploads_s", f"{name}, tus", "@tus/server", at_least=1.5),
            Goal("uploads_s", f"{name}, tus at once", "@tus/server", at_least=2.5),
            Goal("uploads_s", f"{name}, tus", "original, form + MD5", at_least=4.5),
            Goal(
                "uploads_s", f"{name}, form + MD5", "original, form + MD5", at_least=4.5
            ),
            Goal("uploads_s", f"{name}, raw + MD5", "original, form + MD5"),
        ]
    goals += [
        # What there would be to gain.
        Goal("uploads_s", "Flask alone, tus", "@tus/server"),
        Goal("uploads_s", "Flask alone, tus at once", "@tus/server"),
        Goal("uploads_s", "ours, tus", "Flask alone, tus"),
        Goal("uploads_s", "ours, tus at once", "Flask alone, tus at once"),
    ]
    columns = (
        RATE,
        Column("cpu_ms", "server CPU ms"),
        Column("p50_ms", "p50 ms", 1),
        Column("p99_ms", "p99 ms", 1),
        Column("client_cpu_ms", "client CPU ms"),
    )
    title = f"{count:,} uploads of 4 KiB, {WIDTH} at once, two workers"
    return Plan(title, tuple(cases), columns, tuple(goals), CONTENT, RATE)
