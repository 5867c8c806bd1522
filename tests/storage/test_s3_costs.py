"""Requests to S3 and statements to the database of whole uploads: counted, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_chunked.engine import stream
from tests.apps import registered
from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.documents import ROOT, section, tables
from tests.exchange import content_range, finish
from tests.s3 import S3Server, s3_blueprint, storage_of
from tests.s3_costs import DELETES, GETS, PUTS, cost_of
from tests.statements import before_each

MIB = 2**20
SCALING = ROOT / "docs/scaling.rst"
#: Asked once for each 50 ms of receiving; here, where no socket can be asked for what
#: is there, for each block.
FENCE = "SELECT chunked_upload.fence FROM"
#: Length, part and chunk.
SIZES = [
    (3 * MIB, 5 * MIB, MIB),
    (5 * MIB, 5 * MIB, 5 * MIB),
    (20 * MIB, 5 * MIB, 5 * MIB),
    (21 * MIB, 5 * MIB, 3 * MIB),
    (21 * MIB + 1, 5 * MIB, 8 * MIB),
    (33 * MIB, 8 * MIB, 16 * MIB),
    (32 * MIB, 16 * MIB, 5 * MIB),
    (70 * MIB, 5 * MIB, 70 * MIB),
    (72 * MIB, 64 * MIB, 24 * MIB),
]


@pytest.fixture
def s3_app(
    app_factory: AppFactory, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Flask]]:
    """Apps with parts of a size, on which no clock commits."""
    monkeypatch.setattr(stream, "COMMIT_SECONDS", 600.0)
    monkeypatch.setattr(stream, "SECTION_SECONDS", 600.0)
    made = []

    def make(part: int) -> Flask:
        made.append(
            app_factory(blueprint_class=s3_blueprint(s3_server, part_size=part))
        )
        return made[-1]

    yield make
    for app in made:
        storage_of(app).bucket.close()


def count_requests(app: Flask) -> Counter[str]:
    """The operations that the storage's client begins from now on."""
    seen: Counter[str] = Counter()

    def count(model: Any, **_: object) -> None:
        seen[model.name] += 1

    storage_of(app).bucket.client.meta.events.register("before-call.s3", count)
    return seen


def put_all(app: Flask, length: int, chunk: int) -> None:
    """Content-Range, raw bodies, and the POST."""
    client = app.test_client()
    data = bytes(length)
    url = "/uploads/"
    for start in range(0, length or 1, chunk):
        body = data[start : start + chunk]
        told = {"Content-Range": content_range(body, start, length)}
        answer = client.put(url, data=body, headers=told)
        assert answer.status_code == 200, answer.text
        url = answer.get_json()["url"]
    assert finish(client, url, data).status_code == 200


def patch_all(app: Flask, length: int, chunk: int) -> None:
    """tus."""
    tus = Tus(app.test_client())
    url = tus.create(length)
    for start in range(0, length, chunk):
        body = bytes(min(chunk, length - start))
        assert tus.patch(url, start, body).status_code == 204


@pytest.mark.slow
@pytest.mark.parametrize("upload", [put_all, patch_all], ids=["put", "patch"])
@pytest.mark.parametrize(("length", "part", "chunk"), SIZES)
def test_upload_costs_the_requests_that_the_formula_tells(
    s3_app: Callable[[int], Flask],
    upload: Callable[[Flask, int, int], None],
    length: int,
    part: int,
    chunk: int,
) -> None:
    app = s3_app(part)
    seen = count_requests(app)
    upload(app, length, chunk)
    assert seen == cost_of(length, part, chunk).requests


@pytest.mark.slow
def test_chunks_of_one_part_cost_these_statements(
    s3_app: Callable[[int], Flask],
) -> None:
    app = s3_app(5 * MIB)
    put_all(app, 5 * MIB, 5 * MIB)  # warms up
    found = {}
    for parts in (1, 2, 3):
        seen: list[str] = []
        with before_each(registered(app).database, seen.append):
            put_all(app, parts * 5 * MIB, 5 * MIB)
        texts = [" ".join(text.split()) for text in seen]
        found[parts] = sum(
            "SAVEPOINT" not in text and not text.startswith(FENCE) for text in texts
        )
    # Insert, take a number, advance, store the part; find, begin, read
    # the parts, complete, drop the parts. For each chunk more: find, claim, number,
    # advance, part.
    assert found == {1: 9, 2: 14, 3: 19}


def test_page_tells_what_a_gib_costs() -> None:
    table, *_ = tables(section(SCALING, "What S3 costs"))
    told = [[cell.replace(",", "") for cell in row] for row in table[1:]]
    sizes = [(p * MIB, c * MIB) for p in (5, 8, 16, 64) for c in (1, 5, 8, 16, 64)]
    costs = [cost_of(2**30, part, chunk) for part, chunk in sizes]
    assert told == [
        [
            f"{part // MIB} MiB",
            f"{chunk // MIB} MiB",
            *(str(cost.count(names)) for names in (PUTS, GETS, DELETES)),
            *(f"{extra / 2**30:.2f} GiB" for extra in (cost.sent_again, cost.fetched)),
        ]
        for (part, chunk), cost in zip(sizes, costs, strict=True)
    ]
