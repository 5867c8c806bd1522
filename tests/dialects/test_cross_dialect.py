"""One upload, several dialects: created, continued and finished in each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import product

import pytest
from flask import Flask

from tests.apps import rows
from tests.dialects.tus import BASE, TUS, Tus

BODY = b"abcdefghi"
MD5 = hashlib.md5(BODY).hexdigest()


def put(tus: Tus, url: str, start: int, body: bytes) -> int:
    stop = start + len(body) - 1
    response = tus.client.put(
        url,
        data=body,
        headers={
            "Content-Range": f"bytes {start}-{stop}/{len(BODY)}",
            "Content-Type": "application/octet-stream",
        },
    )
    assert response.status_code == 200, response.get_json()
    return int(response.get_json()["offset"])


def create_by_put(tus: Tus) -> str:
    response = tus.client.put(
        BASE, data=BODY[:3], headers={"Content-Range": f"bytes 0-2/{len(BODY)}"}
    )
    return str(response.get_json()["url"])


def create_by_tus(tus: Tus) -> str:
    url = tus.post(BODY[:3], Upload_Length=str(len(BODY))).headers["Location"]
    return url


def continue_by_put(tus: Tus, url: str) -> None:
    assert put(tus, url, 3, BODY[3:6]) == 6


def continue_by_tus(tus: Tus, url: str) -> None:
    assert tus.offset(url) == 3
    assert tus.patch(url, 3, BODY[3:6]).headers["Upload-Offset"] == "6"


def finish_by_post(tus: Tus, url: str) -> None:
    assert put(tus, url, 6, BODY[6:]) == 9
    assert tus.client.get(url).get_json()["status"] == 1
    response = tus.client.post(url, data={"md5": MD5})
    assert (response.status_code, response.get_json()["status"]) == (200, 2)


def finish_by_tus(tus: Tus, url: str) -> None:
    assert tus.patch(url, 6, BODY[6:]).status_code == 204


CREATE = {"put": create_by_put, "tus": create_by_tus}
CONTINUE = {"put": continue_by_put, "tus": continue_by_tus}
FINISH = {"post": finish_by_post, "tus": finish_by_tus}


@pytest.mark.parametrize(
    ("create", "go_on", "finish"), list(product(CREATE, CONTINUE, FINISH))
)
def test_every_triple_makes_the_same_file(
    tus: Tus, tus_app: Flask, create: str, go_on: str, finish: str
) -> None:
    url = CREATE[create](tus)
    CONTINUE[go_on](tus, url)
    FINISH[finish](tus, url)
    (row,) = rows(tus_app)
    assert row.is_complete
    assert tus.content(url) == BODY


def all_there(tus: Tus) -> str:
    url = create_by_put(tus)
    put(tus, url, 3, BODY[3:])
    return url


def test_a_put_never_completes_and_a_bare_head_neither(
    tus: Tus, tus_app: Flask
) -> None:
    url = all_there(tus)
    assert tus.client.head(url).headers["Upload-Offset"] == "9"
    assert not rows(tus_app)[0].is_complete


@pytest.mark.parametrize(
    "look",
    [lambda tus, url: tus.head(url), lambda tus, url: tus.patch(url, 9)],
    ids=["head", "patch"],
)
def test_a_tus_request_at_the_end_completes_what_is_open(
    tus: Tus, tus_app: Flask, look: Callable[[Tus, str], object]
) -> None:
    url = all_there(tus)
    look(tus, url)
    assert rows(tus_app)[0].is_complete


@pytest.mark.parametrize(("digest", "status"), [(MD5, 200), ("0" * 32, 400)])
def test_a_post_on_what_tus_finished_compares_and_it_stays_complete(
    tus: Tus, tus_app: Flask, digest: str, status: int
) -> None:
    url = create_by_tus(tus)
    tus.patch(url, 3, BODY[3:])
    response = tus.client.post(url, data={"md5": digest})
    assert response.status_code == status
    assert rows(tus_app)[0].is_complete


def test_errors_are_in_the_language_of_the_request(tus: Tus) -> None:
    url = create_by_put(tus)
    theirs = tus.patch(url, 0, b"x")
    assert (theirs.status_code, theirs.mimetype) == (409, "text/plain")
    ours = tus.client.put(
        url, data=b"x", headers={"Content-Range": f"bytes 8-8/{len(BODY)}"}
    )
    assert (ours.status_code, ours.get_json()["expected_offset"]) == (400, 3)


def test_a_bare_head_is_answered_for_clients_of_every_dialect(tus: Tus) -> None:
    url = create_by_tus(tus)
    headers = tus.client.head(url).headers
    assert headers["Upload-Offset"] == "3"
    assert headers["Upload-Length"] == "9"
    assert headers["Tus-Resumable"] == TUS["Tus-Resumable"]
    assert "Upload-Expires" in headers
