"""What a request costs in statements and commits: counts, which no machine changes.

They are exact, so that a request that becomes dearer is noticed, and one that becomes
cheaper is written down.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from flask_chunked.database.sqlite import Result
from tests.apps import registered
from tests.statements import around_single, before_each

CONTENT = b"0123456789"
MD5 = hashlib.md5(CONTENT).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


@dataclass
class Cost:
    """Statements without those that begin and end savepoints, and commits."""

    statements: int = 0
    commits: int = 0


@contextmanager
def counted(app: Flask) -> Iterator[Cost]:
    """Count what our own connections do."""
    cost = Cost()
    database = registered(app).database
    engine = database.engine()

    def count_statement(statement: str) -> None:
        cost.statements += "SAVEPOINT" not in statement

    def count_commit(connection: object) -> None:
        cost.commits += 1

    def count_single(text: str, execute: Callable[[], Result]) -> Result:
        cost.commits += not text.startswith("SELECT")
        return execute()

    event.listen(engine, "commit", count_commit)
    try:
        with (
            before_each(database, count_statement),
            around_single(database, count_single),
        ):
            yield cost
    finally:
        event.remove(engine, "commit", count_commit)


@pytest.fixture
def costs(app: Flask, client: FlaskClient) -> dict[str, tuple[int, int]]:
    """Request -> statements and commits, after one of each has warmed up."""
    found: dict[str, tuple[int, int]] = {}

    def ask(name: str, method: str, url: str, **options: object) -> TestResponse:
        with counted(app) as cost:
            answer = client.open(url, method=method, **options)  # type: ignore[arg-type]
        assert answer.status_code < 300, (name, answer.text)
        found[name] = (cost.statements, cost.commits)
        return answer

    def put(name: str, url: str, start: int, stop: int) -> TestResponse:
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/10"}
        return ask(name, "PUT", url, data=CONTENT[start:stop], headers=headers)

    def put_form(name: str, url: str, start: int, stop: int) -> TestResponse:
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/10"}
        form = {"file": (io.BytesIO(CONTENT[start:stop]), "a.bin")}
        return ask(name, "PUT", url, data=form, headers=headers)

    for _ in range(2):
        url = put_form("form, creating", "/uploads/", 0, 4).get_json()["url"]
        put_form("form", url, 4, 10)
        url = put("put, creating", "/uploads/", 0, 4).get_json()["url"]
        put("put", url, 4, 10)
        ask("get", "GET", url)
        ask("head", "HEAD", url)
        ask("post, completing", "POST", url, data={"md5": MD5})
        ask("delete", "DELETE", url)
        headers = {**TUS, "Upload-Length": "10"}
        url = ask("tus post", "POST", "/uploads/", headers=headers).headers["Location"]
        for name, start, stop in (("tus patch", 0, 4), ("tus patch, last", 4, 10)):
            headers = {**BYTES, "Upload-Offset": str(start)}
            ask(name, "PATCH", url, data=CONTENT[start:stop], headers=headers)
            ask("tus head", "HEAD", url, headers=TUS)
        headers = {**TUS, "Upload-Length": "10"}
        url = client.post("/uploads/", headers=headers).headers["Location"]
        headers = {**BYTES, "Upload-Offset": "0"}
        ask("tus patch, all", "PATCH", url, data=CONTENT, headers=headers)
        headers = {**BYTES, "Upload-Length": "10"}
        ask("tus post with all", "POST", "/uploads/", data=CONTENT, headers=headers)
    return found


def test_requests_cost_what_they_did(costs: dict[str, tuple[int, int]]) -> None:
    assert costs == {
        # find, advance
        "put": (2, 1),
        # insert, with the bytes
        "put, creating": (1, 1),
        "form, creating": (1, 1),
        # find, advance
        "form": (2, 1),
        "get": (1, 0),
        "head": (2, 1),
        # find, complete
        "post, completing": (2, 1),
        # find, remove and note the removal; forget it
        "delete": (4, 2),
        "tus post": (1, 1),
        "tus patch": (2, 1),
        # ... with which completion begins, complete
        "tus patch, last": (3, 2),
        "tus head": (1, 0),
        # find, complete with the bytes
        "tus patch, all": (2, 1),
        # insert, complete
        "tus post with all": (1, 1),
    }
