"""The list: its rows, pages, cursors, and bad arguments."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, let_pass, part, told


class Known(ChunkedUploadBlueprint):
    def get_user_id(self) -> object:
        return "anna"


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An app whose caller is Anna."""
    return app_factory(blueprint_class=Known)


def begin(client: FlaskClient, count: int) -> list[str]:
    """Start so many uploads; return their ids."""
    return [
        client.put(
            "/uploads/",
            data=DATA[:5],
            headers={"Content-Range": "bytes 0-4/10"},
            content_type=OCTETS,
        ).get_json()["id"]
        for _ in range(count)
    ]


def finish(client: FlaskClient) -> str:
    """A complete upload; its id."""
    answer = client.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    return str(answer.get_json()["id"])


def ids(answer: Any) -> list[str]:
    """The ids of a page."""
    assert answer.status_code == 200, answer.data
    return [upload["id"] for upload in answer.get_json()]


def next_url(answer: Any) -> str:
    """The URL that Link names."""
    match = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers["Link"])
    assert match is not None
    return match[1]


def test_empty_list(client: FlaskClient) -> None:
    answer = client.get("/uploads/")
    assert told(answer) == (200, [])
    assert "Link" not in answer.headers
    assert "X-Total-Count" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("", "pending"),
        ("?status=pending", "pending"),
        ("?status=complete", "complete"),
        ("?status=all", "all"),
    ],
)
def test_status_chooses(client: FlaskClient, query: str, chosen: str) -> None:
    pending, complete = begin(client, 2), [finish(client)]
    wanted = {"pending": pending, "complete": complete, "all": pending + complete}
    assert ids(client.get(f"/uploads/{query}")) == wanted[chosen]


def test_oldest_is_first_and_pages_have_per_page(client: FlaskClient) -> None:
    made = begin(client, 5)
    assert ids(client.get("/uploads/?per_page=2")) == made[:2]
    assert ids(client.get("/uploads/?per_page=2&page=2")) == made[2:4]
    assert ids(client.get("/uploads/?per_page=2&page=3")) == made[4:]
    assert ids(client.get("/uploads/?per_page=2&page=4")) == []


def test_link_leads_through_all_pages(client: FlaskClient) -> None:
    made = begin(client, 5)
    answer = client.get("/uploads/?per_page=2&status=all&count=1&page=1&junk=1")
    seen = ids(answer)
    for _ in range(2):
        url = next_url(answer)
        assert url.startswith(
            "http://localhost/uploads/?per_page=2&status=all&count=1&cursor="
        )
        answer = client.get(url)
        assert answer.headers["X-Total-Count"] == "5"
        seen += ids(answer)
    assert seen == made
    assert "Link" not in answer.headers


def test_cursor_is_not_moved_by_what_went_meanwhile(client: FlaskClient) -> None:
    made = begin(client, 4)
    answer = client.get("/uploads/?per_page=2")
    client.delete(f"/uploads/{made[0]}")
    assert ids(client.get(next_url(answer))) == made[2:]


def test_full_last_page_has_no_link(client: FlaskClient) -> None:
    begin(client, 2)
    assert "Link" not in client.get("/uploads/?per_page=2").headers


@pytest.mark.parametrize(
    ("query", "count"),
    [("?count=1", "2"), ("?count=1&status=all", "3"), ("", None), ("?count=0", None)],
)
def test_total_count_only_on_request(
    client: FlaskClient, query: str, count: str | None
) -> None:
    begin(client, 2)
    finish(client)
    answer = client.get(f"/uploads/{query}")
    assert answer.headers.get("X-Total-Count") == count


INVALID = {
    "status": ["", "Complete", "uploading", "1"],
    "per_page": ["", "0", "101", "-1", "1.5", "x", "9" * 5000, "\u0661", "+1"],
    "page": ["", "0", "101", "-1", "x", "1e2"],
    "cursor": ["", "x", "bnVsbA", "W10", "WzEsMl0", "\u00e9", "A" * 10_000],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in INVALID.items() for value in values],
    ids=lambda text: ascii(text)[:12],
)
def test_invalid_argument_is_named(client: FlaskClient, name: str, value: str) -> None:
    answer = client.get("/uploads/", query_string={name: value})
    status, body = told(answer)
    assert status == 400 and list(body) == ["detail"]
    assert body["detail"].startswith(f"Query argument '{name}' must be ")


def test_expired_uploads_are_hidden(app: Flask, client: FlaskClient) -> None:
    begin(client, 2)
    done = finish(client)
    let_pass(app, days=2)
    assert ids(client.get("/uploads/")) == []
    answer = client.get("/uploads/?status=all&count=1")
    assert ids(answer) == [done]
    assert answer.headers["X-Total-Count"] == "1"


def test_anonymous_callers_get_an_empty_list(app_factory: AppFactory) -> None:
    client = app_factory().test_client()
    begin(client, 2)
    assert told(client.get("/uploads/?status=all&count=1")) == (200, [])


def test_without_restriction_everybody_lists_all(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_USER_RESTRICTED=False)
    client = app.test_client()
    made = begin(client, 2)
    assert ids(client.get("/uploads/")) == made
