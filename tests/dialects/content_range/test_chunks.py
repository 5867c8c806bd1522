"""Chunks: malformed ranges, and raw bodies, where the body is the chunk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import rows, stored_files
from tests.dialects.wire import DATA, MD5, OCTETS, cut, md5, part, state, told

# -- raw bodies ------------------------------------------------------------------------


def put(client: FlaskClient, url: str, data: bytes, value: str, **more: Any) -> Any:
    """A chunk as the body."""
    more.setdefault("content_type", OCTETS)
    headers = {"Content-Range": value, **more.pop("headers", {})}
    return client.put(url, data=data, headers=headers, **more)


@pytest.mark.parametrize(
    "content_type",
    [OCTETS, "video/mp4", "text/plain; charset=utf-8", "application/json", None],
)
def test_any_type_but_multipart_is_the_chunk_itself(
    app: Flask, client: FlaskClient, tmp_path: Path, content_type: str | None
) -> None:
    answer = put(
        client, "/uploads/", DATA[:5], "bytes 0-4/10", content_type=content_type
    )
    assert state(answer) == (200, 1, 5)
    assert answer.headers["Range"] == "bytes=0-4"
    assert stored_files(tmp_path)[0].read_bytes() == DATA[:5]
    wanted = None if content_type is None else content_type.partition(";")[0]
    assert rows(app)[0].content_type == wanted


def test_json_file_is_not_taken_for_fields(client: FlaskClient, tmp_path: Path) -> None:
    data = json.dumps({"filename": "wrong", "md5": MD5}).encode()
    value = f"bytes 0-{len(data) - 1}/{len(data)}"
    answer = put(client, "/uploads/", data, value, content_type="application/json")
    assert answer.get_json()["filename"] == "upload"
    url = answer.get_json()["url"]
    assert state(client.post(url, data={"md5": md5(data)})) == (200, 2, len(data))
    assert stored_files(tmp_path)[0].read_bytes() == data


def test_raw_and_form_chunks_mix(client: FlaskClient, tmp_path: Path) -> None:
    url = put(client, "/uploads/", DATA[:3], "bytes 0-2/10").get_json()["url"]
    client.put(
        url,
        data={"file": part(DATA[3:7])},
        headers={"Content-Range": "bytes 3-6/10"},
    )
    assert state(put(client, url, DATA[7:], "bytes 7-9/10")) == (200, 1, 10)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert stored_files(tmp_path)[0].read_bytes() == DATA


@pytest.mark.parametrize(
    ("query", "headers", "name"),
    [
        ({"filename": "q.bin"}, {}, "q.bin"),
        ({}, {"Content-Disposition": "attachment; filename=h.bin"}, "h.bin"),
        (
            {"filename": "q.bin"},
            {"Content-Disposition": "attachment; filename=h.bin"},
            "q.bin",
        ),
        ({"filename": "näme €.bin"}, {}, "näme €.bin"),
        ({"filename": ""}, {}, "upload"),
        ({}, {}, "upload"),
    ],
    ids=["query", "header", "both", "unicode", "empty", "neither"],
)
def test_filename_of_a_raw_chunk(
    client: FlaskClient, query: dict[str, str], headers: dict[str, str], name: str
) -> None:
    answer = put(
        client,
        "/uploads/",
        DATA[:5],
        "bytes 0-4/10",
        headers=headers,
        query_string=query,
    )
    assert answer.get_json()["filename"] == name


@pytest.mark.parametrize("size", [0, 4, 6])
def test_body_of_another_size_is_refused_before_it_is_read(
    app: Flask, client: FlaskClient, tmp_path: Path, size: int
) -> None:
    answer = put(client, "/uploads/", b"x" * size, "bytes 0-4/10")
    detail = f"File size doesn't match headers: file size is {size} but 5 reported"
    assert told(answer) == (400, {"detail": detail})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_cut_first_body_keeps_what_arrived(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    answer = put(
        client,
        "/uploads/",
        b"",
        "bytes 0-9/10",
        environ_overrides=cut(DATA[:4], announced=10),
    )
    detail = "Request body ended before its announced length"
    assert told(answer) == (400, {"detail": detail})
    assert [row.offset for row in rows(app)] == [4]
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA[:4]]


def test_first_body_cut_before_its_first_byte_leaves_nothing(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    answer = put(
        client,
        "/uploads/",
        b"",
        "bytes 0-9/10",
        environ_overrides=cut(b"", announced=10),
    )
    assert answer.status_code == 400
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_cut_next_body_goes_on_where_head_says(
    client: FlaskClient, tmp_path: Path
) -> None:
    url = put(client, "/uploads/", DATA[:2], "bytes 0-1/10").get_json()["url"]
    answer = put(
        client,
        url,
        b"",
        "bytes 2-9/10",
        environ_overrides=cut(DATA[2:7], announced=8),
    )
    assert answer.status_code == 400
    assert client.head(url).headers["Upload-Offset"] == "7"
    assert state(put(client, url, DATA[7:], "bytes 7-9/10")) == (200, 1, 10)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert stored_files(tmp_path)[0].read_bytes() == DATA


def test_chunked_transfer_is_counted_against_the_range(
    client: FlaskClient, tmp_path: Path
) -> None:
    def send(data: bytes) -> Any:
        return client.put(
            "/uploads/",
            headers={"Content-Range": "bytes 0-4/10", "Transfer-Encoding": "chunked"},
            content_type=OCTETS,
            environ_overrides={
                **cut(data, announced=0),
                "CONTENT_LENGTH": "",
                "wsgi.input_terminated": True,
            },
        )

    assert state(send(DATA[:5])) == (200, 1, 5)
    for data, size in ((DATA[:4], 4), (DATA[:6], 6)):
        detail = f"File size doesn't match headers: file size is {size} but 5 reported"
        assert told(send(data)) == (400, {"detail": detail})


def test_chunked_body_that_the_server_swallows_is_reported(client: FlaskClient) -> None:
    answer = client.put(
        "/uploads/",
        headers={"Content-Range": "bytes 0-4/10", "Transfer-Encoding": "chunked"},
        content_type=OCTETS,
        environ_overrides={**cut(DATA, announced=0), "CONTENT_LENGTH": ""},
    )
    detail = "This server needs a Content-Length for the request's body"
    assert told(answer) == (411, {"detail": detail})


def test_encoded_body_is_refused(app: Flask, client: FlaskClient) -> None:
    answer = put(
        client,
        "/uploads/",
        DATA[:5],
        "bytes 0-4/10",
        headers={"Content-Encoding": "gzip"},
    )
    detail = "Content-Encoding is not supported; send plain bytes"
    assert told(answer) == (415, {"detail": detail})
    assert rows(app) == []


# -- malformed ranges ------------------------------------------------------------------

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
            assert set(body) == {"detail", "code", "reason"}
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
    detail = "Size of file exceeds the limit (9007199254740991 bytes)"
    assert told(answer) == (413, {"detail": detail})
    assert client.get("/uploads/").get_json() == []
