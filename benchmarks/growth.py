"""Does anything grow: with the file, with the table, with the request?"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from benchmarks.client import MIB, ClientError, Connection, Request, path_of
from benchmarks.dialects import (
    Dialect,
    Job,
    content_range,
    expect,
    put,
    tus,
)
from benchmarks.figures import Goal, Sample
from benchmarks.install import HERE
from benchmarks.large import check, converse, upload
from benchmarks.measure import Case, Column, Plan, Turn
from benchmarks.options import Options
from benchmarks.receivers import Place, original, ours, sink, tus_server

GIB = 1024 * MIB
CHUNK = 8 * MIB

#: Ratios below this are ties on a machine that others use as well.
FLAT = 1.3

#: Bytes and number of the chunks, and entries of a list's page, beside many rows.
LITTLE = 16 * 1024
CHUNKS = 64
PAGE = 5
PAGES = 20

#: Uploads at once, where a request's share of the memory is asked for.
TOGETHER = 4


def sizes(options: Options) -> Plan:
    """Time per GiB from 1 to 32 GiB, beside a C program that syncs to the same disk."""
    lengths = options.sizes or tuple(GIB << power for power in range(6))
    raw = content_range(form=False, digest="md5")
    mine, plain = ours("ours", durable=True), sink("recv", sync=True)
    kinds = (
        ("ours, tus PATCH", mine, tus, 0, ""),
        ("ours, raw 8 MiB + MD5", mine, raw, CHUNK, "md5"),
        ("C recv + fdatasync", plain, put, 0, ""),
    )
    cases: list[Case] = []
    goals: list[Goal] = []
    for name, receiver, dialect, chunk, digest in kinds:
        labels = [f"{name}, {size / GIB:g} GiB" for size in lengths]
        cases += [
            Case(
                label,
                receiver,
                _per_gib(upload(dialect, size, chunk, digest=digest), size),
            )
            for label, size in zip(labels, lengths, strict=True)
        ]
        bound = None if receiver.peer else FLAT
        goals += [
            Goal("s_per_gib", label, labels[0], at_most=bound) for label in labels[1:]
        ]
    columns = (
        Column("s_per_gib", "s per GiB"),
        Column("cpu_s_per_gib", "server CPU-s per GiB"),
        Column("finish_ms", "completion ms", 1),
        Column("above_mib", "above idle MiB", 1),
    )
    return Plan(
        "Time per GiB by size of the file",
        tuple(cases),
        columns,
        tuple(goals),
        max(lengths),
        columns[0],
    )


def _per_gib(once: Callable[[Turn], Sample], size: int) -> Callable[[Turn], Sample]:
    def work(turn: Turn) -> Sample:
        lap = once(turn)
        return {
            **lap,
            "s_per_gib": lap["total_s"] / size * GIB,
            "cpu_s_per_gib": lap["cpu_s"] / size * GIB,
        }

    return work


def filled(count: int) -> Callable[[Place], None]:
    """Puts so many rows into the table before the server starts."""

    def fill(place: Place) -> None:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.rows", str(count)],
            cwd=HERE.parent,
            env={**os.environ, "BENCH_DIRECTORY": str(place.directory)},
            check=True,
        )

    return fill


def _chunks_and_pages(turn: Turn) -> Sample:
    """Small chunks of one upload, then pages of the list by cursor."""
    size = LITTLE * CHUNKS
    job = Job(turn.source, turn.server.receiver.prefix, size, LITTLE, turn.serial)
    with Connection(turn.server.port, turn.source) as connection:
        lap = converse(connection, tus(job))
        pending = _pages(connection, f"{job.prefix}?per_page={PAGE}")
        both = _pages(connection, f"{job.prefix}?per_page={PAGE}&status=all")
    turn.server.forget_files()
    return {
        "create_ms": lap.create * 1000,
        "chunk_ms": statistics.median(lap.each[1:-1]) * 1000,
        "page_ms": pending[0] * 1000,
        "cursor_ms": pending[1] * 1000,
        "all_ms": both[1] * 1000,
    }


def _pages(connection: Connection, path: str) -> list[float]:
    """Median seconds of the first page and of the next one, by its cursor."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(PAGES):
        following = path
        for kept in seconds:
            started = time.perf_counter()
            answer = expect(connection.exchange(Request("GET", following)), 200)
            kept.append(time.perf_counter() - started)
            if kept is seconds[0]:
                following = _next(answer.headers.get("link", ""))
            if len(json.loads(answer.body)) != PAGE:
                raise ClientError("a page of the list is not full")
    return [statistics.median(one) for one in seconds]


def _next(link: str) -> str:
    """The path in ``Link: <...>; rel="next"``.

    :raises ClientError: there is none.
    """
    if 'rel="next"' not in link:
        raise ClientError("the list has one page only")
    return path_of(link.partition("<")[2].partition(">")[0])


def rows(options: Options) -> Plan:
    """A chunk and a page of the list beside few and beside many rows."""
    few, many = "10 rows", f"{options.rows:,} rows"
    cases = tuple(
        Case(label, ours(label, fill=filled(count)), _chunks_and_pages)
        for label, count in ((few, 10), (many, options.rows))
    )
    metrics = ("chunk_ms", "page_ms", "cursor_ms", "all_ms", "create_ms")
    goals = tuple(Goal(metric, many, few, at_most=FLAT) for metric in metrics)
    columns = (
        Column("chunk_ms", "chunk of 16 KiB ms"),
        Column("page_ms", "page of 5 ms"),
        Column("cursor_ms", "next page ms"),
        Column("all_ms", "next of status=all ms"),
        Column("create_ms", "creation ms"),
    )
    title = "A chunk and a page of the list by rows in the table"
    return Plan(title, cases, columns, goals, MIB, columns[0])


def _together(
    dialect: Dialect, length: int, chunk: int, *, digest: str = ""
) -> Callable[[Turn], Sample]:
    """Several uploads at once; the peak is shared out among them."""

    def work(turn: Turn) -> Sample:
        size = 64 * 1024 if turn.is_warm_up else length
        server, source = turn.server, turn.source
        if digest:
            source.digest(digest, Job(source, "", size).content)
        failures: list[Exception] = []

        def one(number: int) -> None:
            job = Job(source, server.receiver.prefix, size, min(chunk, size), number)
            try:
                with Connection(server.port, source) as connection:
                    converse(connection, dialect(job))
            except Exception as error:
                # Raised again below, in the thread that can tell it.
                failures.append(error)

        server.processes.forget_peak()
        threads = [
            threading.Thread(target=one, args=(turn.serial * TOGETHER + number,))
            for number in range(TOGETHER)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        peak = server.processes.memory("VmHWM")
        check(server, source, size, thorough=turn.number == 0, count=TOGETHER)
        server.forget_files()
        above = max(now - server.idle.get(pid, now) for pid, now in peak.items())
        return {"peak_mib": max(peak.values()), "above_mib": above / TOGETHER}

    return work


def memory(options: Options) -> Plan:
    """Peak memory of an active request above the idle server."""
    lengths = options.sizes or (64 * MIB, GIB)
    raw = content_range(form=False, digest="md5")
    form = content_range(form=True, digest="md5")
    longest = max(lengths)
    # A server each: what one leaves behind in the heap must not hide the next.
    cases = [
        Case(f"ours, {name}, {size // MIB} MiB", ours(f"{name} {size}"), work)
        for size in lengths
        for name, work in (
            ("tus PATCH", upload(tus, size)),
            ("raw PUT + MD5", upload(raw, size, digest="md5")),
            ("raw 8 MiB + MD5", upload(raw, size, CHUNK, digest="md5")),
            ("form 8 MiB + MD5", upload(form, size, CHUNK, digest="md5")),
            ("one form + MD5", upload(form, size, digest="md5")),
        )
    ]
    share = longest // TOGETHER
    cases += [
        Case(
            f"ours, {TOGETHER} x {name}, each",
            ours(f"{TOGETHER} x {name}"),
            _together(dialect, share, CHUNK, digest=digest),
        )
        for name, dialect, digest in (
            ("tus 8 MiB", tus, ""),
            ("form 8 MiB", form, "md5"),
        )
    ]
    goals = [Goal("above_mib", case.label, at_most=16) for case in cases]
    cases += [
        Case("@tus/server, PATCH", tus_server(), upload(tus, longest)),
        Case(
            "original, form 8 MiB",
            original(),
            upload(form, longest, CHUNK, digest="md5"),
        ),
    ]
    columns = (
        Column("above_mib", "above idle MiB", 1),
        Column("peak_mib", "peak MiB", 0),
    )
    title = "Peak memory of a request above idle"
    return Plan(title, tuple(cases), columns, tuple(goals), longest, columns[0])
