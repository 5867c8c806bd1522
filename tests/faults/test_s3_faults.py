"""Each request to S3 fails once, before or after its effect: nothing lost or leaked."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import flask_chunked
from tests.aging import age_row
from tests.apps import registered, rows, stop_clock
from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.exchange import PREFIX, content_range, finish
from tests.s3 import S3Server, left_in, s3_blueprint, storage_of

pytest.importorskip("botocore")
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.exceptions import ClientError, ReadTimeoutError

pytestmark = pytest.mark.slow

MIB = 2**20
CONTENT = random.Random(5).randbytes(6 * MIB + 5)
#: What the client sends in one request.
CHUNK = 4 * MIB


class Faulty:
    """botocore's HTTP session, in which one request goes wrong.

    :param at: number of the request, from 0; ``None``: none does.
    :param after: it has its effect, and only its answer is lost.
    :param status: that is answered instead; ``None``: nothing comes in time.
    """

    def __init__(
        self, real: Any, at: int | None, *, after: bool, status: int | None
    ) -> None:
        self.real = real
        self.count = 0
        self._lock = threading.Lock()
        self.hit: str | None = None
        self._at = at
        self._after = after
        self._status = status

    def send(self, request: Any) -> Any:
        # Parts are sent by several threads.
        with self._lock:
            number, self.count = self.count, self.count + 1
        if number != self._at:
            return self.real.send(request)
        self.hit = f"{request.method} {request.url}"
        if self._after:
            answer = self.real.send(request)
            _ = answer.content
        if self._status is None:
            raise ReadTimeoutError(endpoint_url=request.url)
        return AWSResponse(request.url, self._status, HTTPHeaders(), Nothing())

    def close(self) -> None:
        self.real.close()


class Nothing:
    """The body of an answer without one."""

    def stream(self, **_: object) -> Iterator[bytes]:
        return iter(())


@contextmanager
def faulty(app: Flask, at: int | None, **how: Any) -> Iterator[Faulty]:
    """One request of the app's storage goes wrong, inside the block."""
    endpoint = storage_of(app).bucket.client._endpoint
    real = endpoint.http_session
    endpoint.http_session = session = Faulty(real, at, **how)
    try:
        yield session
    finally:
        endpoint.http_session = real


KINDS: dict[str, dict[str, Any]] = {
    "503-before": {"after": False, "status": 503},
    "500-after": {"after": True, "status": 500},
    "timeout-before": {"after": False, "status": None},
    "timeout-after": {"after": True, "status": None},
}


@pytest.fixture
def s3_app(app_factory: AppFactory, s3_server: S3Server) -> Iterator[Any]:
    made = []

    def make(attempts: int) -> Flask:
        app = app_factory(
            blueprint_class=s3_blueprint(s3_server, attempts=attempts),
            CHUNKED_UPLOAD_DOWNLOADS=True,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        storage_of(app).bucket.close()


def upload_all(client: FlaskClient, *, patient: bool) -> tuple[str, list[int]]:
    """A client that goes on after a failure; the upload's URL, and what failed.

    :param patient: it may be told that it must come again.
    """
    tus = Tus(client)
    url, failed = tus.create(len(CONTENT)), []
    for _ in range(20):
        start = tus.offset(url)
        chunk = CONTENT[start : start + CHUNK]
        answer = tus.patch(url, start, chunk)
        if answer.status_code != 204:
            failed.append(answer.status_code)
            assert patient, answer.text
        elif start + len(chunk) == len(CONTENT):
            return url, failed
    raise AssertionError(f"never done: {failed}")


def require_clean(app: Flask) -> None:
    """After a check and its repair there is nothing but the finished files."""
    stop_clock(app, datetime.now(timezone.utc) + timedelta(hours=1))
    with app.app_context():
        flask_chunked.check(repair=True)
        assert flask_chunked.check(repair=False) == []
    here = registered(app)
    keys = sorted(str(row.storage_key) for row in rows(app) if row.is_complete)
    assert left_in(storage_of(app)) == (keys, [])
    assert here.parts is not None
    with app.app_context(), here.database.transaction() as connection:
        assert connection.execute(here.parts.table.select()).all() == []


@pytest.mark.parametrize("attempts", [1, 3], ids=["bare", "botocore-retries"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_request_may_fail_once(s3_app: Any, kind: str, attempts: int) -> None:
    """Fault on call k, for every k: create, part, tail, copy, complete, delete, ..."""
    app = s3_app(attempts)
    client, how, hits = app.test_client(), KINDS[kind], []
    at = 0
    while True:
        with faulty(app, at, **how) as session:
            url, failed = upload_all(client, patient=attempts == 1)
        assert set(failed) <= {503}, (session.hit, failed)
        assert Tus(client).content(url) == CONTENT, session.hit
        if session.hit is None:
            break
        hits.append(session.hit)
        at += 1
    # create, part, two tails and the read of one, copy, complete, two deletes, HEADs
    assert len(hits) >= 9, hits
    require_clean(app)
    assert len(rows(app)) == len(hits) + 1


def in_forms(client: FlaskClient) -> str:
    """Chunks in forms and a completion with the checksum."""
    url, offset = f"{PREFIX}/", 0
    for _ in range(20):
        if offset == len(CONTENT):
            answer = finish(client, url, CONTENT)
            if answer.status_code == 200:
                return url
        else:
            chunk = CONTENT[offset : offset + CHUNK]
            # The test client itself would leave a temporary file open.
            part = FileStorage(io.BytesIO(chunk), "name.bin")
            boundary, body = encode_multipart({"file": part})
            answer = client.put(
                url,
                data=body,
                headers={"Content-Range": content_range(chunk, offset, len(CONTENT))},
                content_type=f"multipart/form-data; boundary={boundary}",
            )
            if answer.status_code == 200:
                url, offset = answer.get_json()["url"], answer.get_json()["offset"]
        assert answer.status_code in (200, 503), answer.text
    raise AssertionError("never done")


def of_unknown_length(client: FlaskClient) -> str:
    """The length comes when all bytes are there, with an empty request."""
    tus = Tus(client)
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    for _ in range(20):
        start = tus.offset(url)
        chunk = CONTENT[start : start + CHUNK]
        length = {} if chunk else {"Upload_Length": str(len(CONTENT))}
        answer = tus.patch(url, start, chunk, **length)
        assert answer.status_code in (204, 503), answer.text
        if answer.status_code == 204 and not chunk:
            return url
    raise AssertionError("never done")


def from_partial_ones(client: FlaskClient) -> str:
    """Two partial uploads become one: copied inside the store, and streamed."""
    tus = Tus(client)
    cut = 5 * MIB + 3
    urls = []
    for piece in (CONTENT[:cut], CONTENT[cut:]):
        urls.append(tus.post(Upload_Length=str(len(piece)), Upload_Concat="partial"))
        url = urls[-1].headers["Location"]
        while (offset := tus.offset(url)) < len(piece):
            answer = tus.patch(url, offset, piece[offset:])
            assert answer.status_code in (204, 503), answer.text
    locations = [answer.headers["Location"] for answer in urls]
    for _ in range(5):
        answer = tus.final(*locations)
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code == 201:
            return str(answer.headers["Location"])
    raise AssertionError("never done")


WAYS = {
    "forms": in_forms,
    "unknown-length": of_unknown_length,
    "concatenation": from_partial_ones,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_any_request_may_fail_in_every_way_to_upload(
    s3_app: Any, way: str, kind: str
) -> None:
    app = s3_app(1)
    client, at, hit = app.test_client(), 0, True
    while hit:
        with faulty(app, at, **KINDS[kind]) as session:
            url = WAYS[way](client)
        assert Tus(client).content(url) == CONTENT, session.hit
        hit, at = session.hit is not None, at + 1
    assert at > 9
    give_up_the_rest(app)
    require_clean(app)


def give_up_the_rest(app: Flask) -> None:
    """Uploads whose creator was told 503 and began anew; partial ones, too."""
    for row in rows(app):
        if not row.is_complete:
            age_row(app, row.id)
    with app.app_context():
        flask_chunked.delete_expired()


@pytest.mark.parametrize("kind", KINDS)
def test_expiry_may_fail_at_any_request(s3_app: Any, kind: str) -> None:
    app = s3_app(1)
    tus, at, hit = Tus(app.test_client()), 0, True
    while hit:
        url = tus.create(len(CONTENT))
        assert tus.patch(url, 0, CONTENT[:-1]).status_code == 204
        give_up = [row.id for row in rows(app)]
        for upload_id in give_up:
            age_row(app, upload_id)
        with faulty(app, at, **KINDS[kind]) as session, app.app_context():
            # What fails is told, and the next clean-up carries it on.
            with suppress(flask_chunked.exceptions.ChunkedUploadError):
                flask_chunked.delete_expired()
            flask_chunked.delete_expired()
        assert tus.head(url).status_code in (404, 410)
        hit, at = session.hit is not None, at + 1
    assert at > 4
    require_clean(app)
    assert rows(app) == []


def test_part_that_is_not_the_one_that_was_sent_is_lost_bytes(s3_app: Any) -> None:
    """The server compares ETags; not all do, so its answer is ours here."""
    app = s3_app(1)
    tus = Tus(app.test_client())
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[:-1]).status_code == 204
    with pytest.MonkeyPatch.context() as patch:
        client = storage_of(app).bucket.client
        told: Any = {"Error": {"Code": "InvalidPart"}}

        def refuse(**_: object) -> None:
            raise ClientError(told, "CompleteMultipartUpload")

        patch.setattr(client, "complete_multipart_upload", refuse)
        answer = tus.patch(url, len(CONTENT) - 1, CONTENT[-1:])
    assert (answer.status_code, rows(app)[0].is_complete) == (410, False), answer.text
    assert tus.delete(url).status_code == 204
    require_clean(app)


@pytest.mark.parametrize("kind", KINDS)
def test_termination_may_fail_at_any_request(s3_app: Any, kind: str) -> None:
    app = s3_app(1)
    client, at, hit = app.test_client(), 0, True
    while hit:
        tus = Tus(client)
        url = tus.create(len(CONTENT))
        assert tus.patch(url, 0, CONTENT[:-1]).status_code == 204
        with faulty(app, at, **KINDS[kind]) as session:
            assert tus.delete(url).status_code in (204, 503)
        assert tus.head(url).status_code == 404
        hit, at = session.hit is not None, at + 1
    assert at > 4
    require_clean(app)
    assert rows(app) == []
