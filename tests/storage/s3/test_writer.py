"""The appender of the S3 storage: parts, tails, two writers, and what uploads cost."""

from __future__ import annotations

import gc
import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_chunked.engine import stream
from flask_chunked.engine.records import OffsetCommit
from flask_chunked.engine.writer import UploadWriter
from flask_chunked.exceptions import (
    DatabaseUnavailable,
    Superseded,
)
from flask_chunked.storage.s3.writer import S3Appender
from tests.apps import registered, rows
from tests.conftest import AppFactory
from tests.dialects.tus import CHUNKED, Tus
from tests.dialects.wire import cut
from tests.documents import ROOT, section, tables
from tests.exchange import content_range, finish, put_raw
from tests.s3 import S3Server, s3_blueprint, storage_of
from tests.s3_costs import DELETES, GETS, PUTS, cost_of
from tests.statements import before_each

from .uploads import CONTENT, MIB, check_much_later, created_upload, require_only


@pytest.mark.slow
def test_interrupted_request_keeps_what_arrived(app: Flask) -> None:
    client = app.test_client()
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    client.put(
        "/uploads/",
        headers=headers,
        environ_overrides=cut(CONTENT[: 7 * MIB], announced=len(CONTENT)),
        content_type="application/octet-stream",
    )
    (upload,) = rows(app)
    assert upload.offset == 7 * MIB
    url = f"/uploads/{upload.id}"
    rest = put_raw(
        client, CONTENT[7 * MIB :], start=7 * MIB, total=len(CONTENT), url=url
    )
    assert rest.status_code == 200
    assert finish(client, url, CONTENT).status_code == 200
    require_only(app, *rows(app))


@pytest.mark.slow
def test_concatenation_copies_inside_the_store(
    app: Flask, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, copied = storage_of(app), []
    real = storage.bucket.copy_part

    def copy_part(*arguments: object, **more: object) -> object:
        copied.append(arguments[4])
        return real(*arguments, **more)  # type: ignore[arg-type]

    a = tus.partial(CONTENT[: 11 * MIB])
    b = tus.partial(CONTENT[11 * MIB : 11 * MIB + 3])
    c = tus.partial(CONTENT)
    monkeypatch.setattr(storage.bucket, "copy_part", copy_part)
    whole = CONTENT[: 11 * MIB + 3] + CONTENT
    answer = tus.final(a, b, c)
    assert answer.status_code == 201, answer.text
    assert tus.content(answer.headers["Location"]) == whole
    # Two of the first, one of the last; and the tail of them all.
    assert copied == [5 * MIB] * 3 + [len(whole) - 20 * MIB]
    require_only(app, *rows(app))


@pytest.mark.slow
def test_body_without_a_length_may_be_of_any_size(app: Flask, tus: Tus) -> None:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    answer = app.test_client().patch(
        url,
        environ_overrides={**CHUNKED, "wsgi.input": io.BytesIO(CONTENT)},
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Transfer-Encoding": "chunked",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    assert answer.status_code == 204
    assert tus.offset(url) == len(CONTENT)


@pytest.mark.slow
def test_writer_that_was_superseded_is_never_listed(app: Flask) -> None:
    """It took a part's number, slept, and sends its part after all is committed."""
    here = registered(app)
    client = app.test_client()
    total = 10 * MIB + 1
    engine, storage = here.engine, storage_of(app)
    upload = created_upload(app, total)
    with app.app_context():
        claimed = here.repository.claim(upload.id, 0)
        assert claimed is not None and claimed.blob is not None
        writer = UploadWriter(claimed, engine.ports)
        stale = writer._appender
        assert isinstance(stale, S3Appender)
        with stale.exclusive():
            stale.write(b"x" * (5 * MIB))
            number = stale._take_number()
    at = f"/uploads/{upload.id}"
    wanted = CONTENT[:total]
    assert put_raw(client, wanted, total=total, url=at).status_code == 200
    late = storage.bucket.send_part(
        claimed.blob.key, stale._upload, number, stale._spool.file, 5 * MIB
    )
    with app.app_context(), pytest.raises(Superseded), stale.exclusive():
        stale._sent.append(late)
        stale._state = replace(stale._state, parts=1)
        stale.position = 5 * MIB
        writer._commit()
    writer.__exit__(None, None, None)
    assert finish(client, at, wanted).status_code == 200
    with client.get(at + "/file") as answer:
        assert hashlib.md5(answer.get_data()).digest() == hashlib.md5(wanted).digest()


@pytest.mark.slow
@pytest.mark.parametrize("happened", [True, False], ids=["committed", "not-committed"])
def test_commit_without_a_reply_loses_no_tail(
    app: Flask, tus: Tus, happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, asked = registered(app).repository, []
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[:1000]).status_code == 204
    real = repository.advance

    def advance(commit: OffsetCommit) -> bool:
        asked.append(commit)
        if len(asked) > 1:
            return real(commit)
        if happened:
            assert real(commit)
        raise DatabaseUnavailable()

    monkeypatch.setattr(repository, "advance", advance)
    tus.patch(url, 1000, CONTENT[1000:3000])
    assert len(asked) == 2
    offset = tus.offset(url)
    assert offset == 3000
    assert tus.patch(url, offset, CONTENT[offset:]).status_code == 204
    assert tus.content(url) == CONTENT
    check_much_later(app)
    require_only(app, *rows(app))


@pytest.mark.slow
def test_tail_that_the_row_names_outlives_a_database_that_is_away(
    app: Flask, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[:1000]).status_code == 204
    with monkeypatch.context() as patch:

        def advance(commit: OffsetCommit) -> bool:
            raise DatabaseUnavailable()

        patch.setattr(registered(app).repository, "advance", advance)
        assert tus.patch(url, 1000, CONTENT[1000:3000]).status_code == 503
    assert tus.offset(url) == 1000
    assert tus.patch(url, 1000, CONTENT[1000:]).status_code == 204
    assert tus.content(url) == CONTENT
    check_much_later(app)
    require_only(app, *rows(app))


class Endless(io.RawIOBase):
    """A body that is made while it is read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.block = random.Random(9).randbytes(MIB)

    def read(self, size: int = -1) -> bytes:
        count = min(self.left, MIB if size < 0 else size, MIB)
        self.left -= count
        return self.block[:count]


def peak_rss() -> int:
    """Bytes that this process had resident at most, since it was last set back."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_body(app: Flask, tus: Tus) -> None:
    def send_much(size: int) -> None:
        answer = app.test_client().patch(
            tus.create(size),
            environ_overrides={
                "wsgi.input": Endless(size),
                "CONTENT_LENGTH": str(size),
            },
            headers={
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
            },
        )
        assert answer.status_code == 204, answer.text

    send_much(6 * MIB)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_rss()
    send_much(128 * MIB)
    assert peak_rss() - before <= 16 * MIB


SCALING = ROOT / "docs/scaling.rst"


#: Sent once for each 50 ms of receiving. A test client has no socket to be polled,
#: so it is sent for each block here.
FENCE = "SELECT chunked_upload.fence FROM"


#: Bytes of the file, of a part and of a chunk.
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
def app_with_parts(
    app_factory: AppFactory, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Flask]]:
    """Apps with parts of a size, on which no clock commits."""
    monkeypatch.setattr(S3Appender, "commit_interval", 600.0)
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
def test_upload_costs_the_requests_of_the_formula(
    app_with_parts: Callable[[int], Flask],
    upload: Callable[[Flask, int, int], None],
    length: int,
    part: int,
    chunk: int,
) -> None:
    app = app_with_parts(part)
    seen = count_requests(app)
    upload(app, length, chunk)
    assert seen == cost_of(length, part, chunk).requests


@pytest.mark.slow
def test_chunks_of_one_part_cost_these_statements(
    app_with_parts: Callable[[int], Flask],
) -> None:
    app = app_with_parts(5 * MIB)
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


def test_page_shows_the_costs_of_a_gib() -> None:
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
