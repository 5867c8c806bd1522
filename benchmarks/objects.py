"""Uploads into one S3 server: ours and @tus/s3-store beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from benchmarks.bodies import ABOVE, CHUNK, CPU, PEAK, SPEED, TOTAL
from benchmarks.client import MIB, Slice
from benchmarks.dialects import Dialect, content_range, tus
from benchmarks.figures import Goal, Sample
from benchmarks.large import SMALL, upload
from benchmarks.measure import Case, Plan, Turn
from benchmarks.options import Options
from benchmarks.receivers import Receiver, ours, tus_server
from benchmarks.seaweedfs import REGION, Store

#: Bytes of a part, for both.
PART = 8 * MIB


def objects(options: Options) -> Plan:
    """Parts of 8 MiB into SeaweedFS, in one request and in chunks."""
    size = options.size
    store = Store()

    def told(bucket: str) -> Callable[[], dict[str, str]]:
        return lambda: {"BENCH_S3": json.dumps(_options(store, bucket))}

    mine = ours("ours", durable=True, checked=False, environment=told("ours"))
    mine = replace(mine, content="", pattern="")
    theirs = tus_server(told("theirs"))
    raw = content_range(form=False, digest=None)

    def case(label: str, receiver: Receiver, dialect: Dialect, chunk: int = 0) -> Case:
        bucket = "theirs" if receiver.peer else "ours"
        return Case(label, receiver, _checked(store, bucket, dialect, size, chunk))

    cases = (
        case("ours, tus PATCH", mine, tus),
        case("ours, raw PUT", mine, raw),
        case("@tus/s3-store, PATCH", theirs, tus),
        case("ours, tus chunks", mine, tus, CHUNK),
        case("@tus/s3-store, chunks", theirs, tus, CHUNK),
    )
    goals = (
        Goal("total_s", "ours, tus PATCH", "@tus/s3-store, PATCH"),
        Goal("total_s", "ours, raw PUT", "@tus/s3-store, PATCH"),
        Goal("total_s", "ours, tus chunks", "@tus/s3-store, chunks"),
        Goal("cpu_s", "ours, tus PATCH", "@tus/s3-store, PATCH"),
        Goal("cpu_s", "ours, tus chunks", "@tus/s3-store, chunks"),
    )
    return Plan(
        f"{size // MIB} MiB into SeaweedFS, parts of {PART // MIB} MiB",
        cases,
        (SPEED, TOTAL, CPU, PEAK, ABOVE),
        goals,
        size,
        SPEED,
        store.running,
    )


def _options(store: Store, bucket: str) -> dict[str, object]:
    return {
        "bucket": store.bucket(bucket),
        "endpoint_url": store.endpoint,
        "access_key": store.access,
        "secret_key": store.secret,
        "region": REGION,
        "path_style": True,
        "part_size": PART,
    }


def _checked(
    store: Store, bucket: str, dialect: Dialect, length: int, chunk: int
) -> Callable[[Turn], Sample]:
    work = upload(dialect, length, chunk)

    def checked(turn: Turn) -> Sample:
        sample = work(turn)
        size = min(SMALL, length) if turn.is_warm_up else length
        sent = turn.source.digest("sha256", Slice(0, size)) if turn.number == 0 else ""
        store.take(bucket, size, sent)
        return sample

    return checked
