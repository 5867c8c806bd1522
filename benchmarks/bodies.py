"""Large files: one body, chunks, forms, and the checksum of the whole file."""

from __future__ import annotations

from benchmarks.client import MIB
from benchmarks.dialects import content_range, put, put_hashed, tus
from benchmarks.figures import Goal
from benchmarks.large import upload
from benchmarks.measure import Case, Column, Plan
from benchmarks.options import Options
from benchmarks.receivers import (
    hash_loop,
    nginx,
    original,
    ours,
    sink,
    tus_server,
)

#: Bytes of a chunk.
CHUNK = 8 * MIB

SPEED = Column("mib_s", "MiB/s", 0)
CPU = Column("cpu_s", "server CPU-s")
PEAK = Column("peak_mib", "peak MiB", 0)
ABOVE = Column("above_mib", "above idle MiB", 1)
FINISH = Column("finish_ms", "completion ms", 1)
TOTAL = Column("total_s", "total s")


def one_body(options: Options) -> Plan:
    """One request with all bytes; no checksum of the whole file."""
    size = options.size
    raw = content_range(form=False, digest=None)
    fast = ours("ours", checked=False)
    safe = ours("ours, durable", durable=True, checked=False)
    cases = (
        Case("ours, tus PATCH", fast, upload(tus, size)),
        Case("ours, raw PUT", fast, upload(raw, size)),
        Case("nginx DAV PUT", nginx(), upload(put, size)),
        Case("@tus/server, PATCH", tus_server(), upload(tus, size)),
        Case("C splice", sink("splice"), upload(put, size)),
        Case("ours, durable, tus PATCH", safe, upload(tus, size)),
        Case("ours, durable, raw PUT", safe, upload(raw, size)),
        Case("C recv + fdatasync", sink("recv", sync=True), upload(put, size)),
    )
    goals = []
    for mine in ("ours, tus PATCH", "ours, raw PUT"):
        goals += [
            Goal("mib_s", mine, "nginx DAV PUT", at_least=1),
            Goal("mib_s", mine, "@tus/server, PATCH", at_least=3.3),
            Goal("mib_s", mine, "C splice", at_least=0.85),
            Goal("cpu_s", mine, at_most=round(0.45 * size / (1024 * MIB), 4)),
        ]
    goals += [
        Goal("mib_s", mine, "C recv + fdatasync", at_least=0.9)
        for mine in ("ours, durable, tus PATCH", "ours, durable, raw PUT")
    ]
    columns = (SPEED, CPU, FINISH, TOTAL, PEAK, ABOVE)
    title = f"{size // MIB} MiB in one request"
    return Plan(title, cases, columns, tuple(goals), size, SPEED)


def md5(options: Options) -> Plan:
    """First byte to the completion's 200, with the default MD5."""
    size = options.size
    raw = content_range(form=False, digest="md5")
    form = content_range(form=True, digest="md5")
    cases = (
        Case("ours, raw PUT", ours("ours"), upload(raw, size, digest="md5")),
        Case(
            "ours, durable, raw PUT",
            ours("ours, durable", durable=True),
            upload(raw, size, digest="md5"),
        ),
        Case("bare loop", hash_loop(), upload(put_hashed, size, digest="md5")),
        Case(
            "original, forms of 8 MiB",
            original(),
            upload(form, size, CHUNK, digest="md5"),
        ),
        # It is faster so; its users send what they like.
        Case(
            "original, forms of 64 MiB",
            original(),
            upload(form, size, 8 * CHUNK, digest="md5"),
        ),
    )
    goals = tuple(
        goal
        for mine in ("ours, raw PUT", "ours, durable, raw PUT")
        for goal in (
            Goal("total_s", mine, "bare loop", at_most=1.15),
            Goal("total_s", mine, "original, forms of 8 MiB", at_most=0.45),
            Goal("total_s", mine, "original, forms of 64 MiB"),
        )
    )
    columns = (TOTAL, Column("transfer_s", "transfer s"), FINISH, CPU, PEAK, ABOVE)
    title = f"{size // MIB} MiB in one request with the default MD5"
    return Plan(title, cases, columns, goals, size, TOTAL)


def chunks(options: Options) -> Plan:
    """Chunks of 8 MiB, raw and tus."""
    size = options.size
    raw = content_range(form=False, digest=None)
    checked = content_range(form=False, digest="md5")
    fast = ours("ours", checked=False)
    safe = ours("ours, durable", durable=True, checked=False)
    theirs = "@tus/server, PATCH"
    cases = (
        Case("ours, raw PUT", fast, upload(raw, size, CHUNK)),
        Case("ours, tus PATCH", fast, upload(tus, size, CHUNK)),
        Case(theirs, tus_server(), upload(tus, size, CHUNK)),
        Case("ours, durable, raw PUT", safe, upload(raw, size, CHUNK)),
        Case("ours, durable, tus PATCH", safe, upload(tus, size, CHUNK)),
        Case(
            "ours, raw PUT with MD5",
            ours("ours, checked"),
            upload(checked, size, CHUNK, digest="md5"),
        ),
    )
    goals = (
        Goal("mib_s", "ours, raw PUT", theirs, at_least=2.2),
        Goal("mib_s", "ours, tus PATCH", theirs, at_least=2.2),
        Goal("mib_s", "ours, durable, raw PUT", theirs),
        Goal("mib_s", "ours, durable, tus PATCH", theirs),
    )
    columns = (SPEED, CPU, FINISH, TOTAL, PEAK, ABOVE)
    title = f"{size // MIB} MiB in chunks of {CHUNK // MIB} MiB"
    return Plan(title, cases, columns, goals, size, SPEED)


def forms(options: Options) -> Plan:
    """Chunks of 8 MiB as multipart/form-data."""
    size = options.size
    unchecked = content_range(form=True, digest=None)
    checked = content_range(form=True, digest="md5")
    theirs = "original, MD5"
    cases = (
        Case(
            "ours, no checksum",
            ours("ours, unchecked", checked=False),
            upload(unchecked, size, CHUNK),
        ),
        Case("ours, MD5", ours("ours"), upload(checked, size, CHUNK, digest="md5")),
        Case(theirs, original(), upload(checked, size, CHUNK, digest="md5")),
        Case(
            "ours, durable, MD5",
            ours("ours, durable", durable=True),
            upload(checked, size, CHUNK, digest="md5"),
        ),
    )
    goals = (
        Goal("mib_s", "ours, no checksum", theirs, at_least=3.5),
        Goal("total_s", "ours, MD5", theirs, at_most=0.5),
        Goal("total_s", "ours, durable, MD5", theirs),
    )
    columns = (SPEED, FINISH, TOTAL, CPU, PEAK, ABOVE)
    title = f"{size // MIB} MiB in forms of {CHUNK // MIB} MiB"
    return Plan(title, cases, columns, goals, size, TOTAL)


def completion(options: Options) -> Plan:
    """The POST with the MD5, answered by any of two workers."""
    sizes = options.sizes or (256 * MIB, 1024 * MIB, 8192 * MIB)
    raw = content_range(form=False, digest="md5")
    form = content_range(form=True, digest="md5")
    mine = ours("ours", workers=2)
    theirs = original(workers=2)
    safe = ours("ours, durable", workers=2, durable=True)
    cases = [
        Case(f"ours, {size // MIB} MiB", mine, upload(raw, size, CHUNK, digest="md5"))
        for size in sizes
    ]
    cases.append(
        Case(
            f"ours, durable, {sizes[0] // MIB} MiB",
            safe,
            upload(raw, sizes[0], CHUNK, digest="md5"),
        )
    )
    cases += [
        Case(
            f"original, {size // MIB} MiB",
            theirs,
            upload(form, size, CHUNK, digest="md5"),
        )
        for size in sizes
        if size <= 1024 * MIB
    ]
    goals = [Goal("finish_ms", case.label, at_most=50) for case in cases[: len(sizes)]]
    goals += [
        Goal("finish_ms", case.label, cases[0].label) for case in cases[1 : len(sizes)]
    ]
    columns = (FINISH, SPEED, TOTAL, CPU)
    title = "Completion with an MD5, two workers"
    return Plan(title, tuple(cases), columns, tuple(goals), max(sizes), FINISH)
