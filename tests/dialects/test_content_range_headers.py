"""Malformed Content-Range headers: one answer, and no change."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import rows
from tests.dialects.wire import DATA, OCTETS, part, state

MALFORMED = {
    "empty": "",
    "no unit": "0-4/10",
    "other unit": "items 0-4/10",
    "unit without range": "bytes",
    "total unknown": "bytes 0-4/*",
    "range unknown": "bytes */10",
    "no total": "bytes 0-4",
    "no end": "bytes 0-/10",
    "no start": "bytes -4/10",
    "end before start": "bytes 4-3/10",
    "negative start": "bytes -1-4/10",
    "sign": "bytes +0-4/10",
    "hexadecimal": "bytes 0x0-4/10",
    "underscore": "bytes 0-4/1_0",
    "space inside": "bytes 0 - 4/10",
    "equals sign": "bytes=0-4/10",
    "two ranges": "bytes 0-1,2-4/10",
    "trailing text": "bytes 0-4/10;x",
    "float": "bytes 0-4/10.0",
    "latin-1 digit": "bytes 0-4/1\xb2",
    "arabic digits": "bytes \u0660-\u0664/\u0661\u0660",
    "just above 64 bits": f"bytes 0-4/{2**63}",
    "ten to the thirty": f"bytes 0-4/{10**30}",
    "5,000 digits": f"bytes 0-4/{'9' * 5000}",
}


def ranged(value: str) -> dict[str, str]:
    """The header as WSGI carries it: UTF-8 bytes read as ISO-8859-1."""
    return {"Content-Range": value.encode().decode("latin-1")}


@pytest.mark.parametrize("value", [*MALFORMED.values(), None], ids=[*MALFORMED, "none"])
def test_every_kind_of_chunk_is_refused(
    app: Flask, client: FlaskClient, value: str | None
) -> None:
    url = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": "bytes 0-4/10"},
        content_type=OCTETS,
    ).get_json()["url"]
    headers = {} if value is None else ranged(value)
    for target, data in (("/uploads/", DATA[:5]), (url, DATA[5:])):
        raw = client.put(target, data=data, headers=headers, content_type=OCTETS)
        form = client.put(target, data={"file": part(data)}, headers=headers)
        for answer in (raw, form):
            body = answer.get_json()
            assert answer.status_code == 400
            assert body["detail"] == "Error in request headers"
            assert body["reason"].startswith("Content-Range: ")
            assert set(body) == {"detail", "reason"}
    assert state(client.get(url)) == (200, 1, 5)
    assert len(rows(app)) == 1


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_post_with_a_malformed_range_is_no_whole_file(
    app: Flask, client: FlaskClient, value: str
) -> None:
    answer = client.post("/uploads/", data={"file": part(DATA)}, headers=ranged(value))
    assert answer.status_code == 400
    assert answer.get_json()["detail"] == "Error in request headers"
    assert rows(app) == []


@pytest.mark.parametrize("value", ["BYTES 0-4/10", "Bytes 0-4/10"])
def test_unit_is_case_insensitive(client: FlaskClient, value: str) -> None:
    answer = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": value},
        content_type=OCTETS,
    )
    assert state(answer) == (200, 1, 5)


@pytest.mark.local_disk
def test_largest_number_that_json_holds_exactly_is_a_total(client: FlaskClient) -> None:
    answer = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": f"bytes 0-4/{2**53 - 1}"},
        content_type=OCTETS,
    )
    assert state(answer) == (200, 1, 5)
    head = client.head(answer.get_json()["url"])
    assert head.headers["Upload-Length"] == "9007199254740991"


@pytest.mark.local_disk
@pytest.mark.parametrize("total", [2**53, 2**63 - 1])
def test_larger_number_is_no_total(client: FlaskClient, total: int) -> None:
    answer = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": f"bytes 0-4/{total}"},
        content_type=OCTETS,
    )
    assert answer.status_code == 413
    assert answer.get_json() == {
        "detail": "Size of file exceeds the limit (9007199254740991 bytes)"
    }
    assert client.get("/uploads/").get_json() == []
