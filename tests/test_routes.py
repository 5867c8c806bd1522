"""URLs and methods: every path below the prefix gets JSON and no redirect."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import rows
from tests.dialects.wire import DATA, MD5, OCTETS, part, state, told

NOT_FOUND = (404, {"detail": "Not found."})
COLLECTION = "GET, HEAD, POST, PUT, OPTIONS"
UPLOAD = "GET, HEAD, PUT, POST, DELETE, OPTIONS"
CONTENT = "GET, HEAD, OPTIONS"


@pytest.fixture
def url(client: FlaskClient) -> str:
    """An upload that has five of ten bytes; its path."""
    answer = put(client, "/uploads/", DATA[:5], "bytes 0-4/10")
    return f"/uploads/{answer.get_json()['id']}"


def put(client: FlaskClient, url: str, data: bytes, value: str) -> Any:
    """A raw chunk."""
    return client.put(
        url, data=data, headers={"Content-Range": value}, content_type=OCTETS
    )


# -- slashes ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/uploads", "/uploads/"])
def test_collection_with_and_without_a_slash(client: FlaskClient, path: str) -> None:
    assert told(client.get(path)) == (200, [])
    assert state(put(client, path, DATA[:5], "bytes 0-4/10")) == (200, 1, 5)
    form = {"file": part(DATA), "md5": MD5}
    assert state(client.post(path, data=form)) == (200, 2, 10)
    assert client.options(path).status_code == 204


@pytest.mark.parametrize("slash", ["", "/"])
def test_upload_with_and_without_a_slash(
    client: FlaskClient, url: str, slash: str
) -> None:
    path = url + slash
    assert state(client.get(path)) == (200, 1, 5)
    assert client.head(path).headers["Upload-Offset"] == "5"
    assert state(put(client, path, DATA[5:], "bytes 5-9/10")) == (200, 1, 10)
    assert state(client.post(path, data={"md5": MD5})) == (200, 2, 10)
    assert told(client.get(f"{url}/file{slash}")) == NOT_FOUND
    assert client.delete(path).status_code == 204


@pytest.mark.parametrize(
    "path",
    [
        "/uploads//",
        "/uploads///",
        "/uploads//{id}",
        "/uploads/{id}//",
        "/uploads/{id}//file",
        "/uploads/{id}/file//",
        "/uploads/{id}/other",
        "/uploads/{id}/file/x",
        "/uploads/{id}/../{id}",
        "/uploads/./{id}",
        "/uploads/file",
        "/uploads/x/y/z",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_other_paths_are_unknown_and_never_redirected(
    app: Flask, client: FlaskClient, url: str, path: str, method: str
) -> None:
    target = path.format(id=url.rpartition("/")[2])
    answer = client.open(
        target,
        method=method,
        data=None if method == "GET" else DATA[5:],
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS,
    )
    assert told(answer) == NOT_FOUND
    assert rows(app)[0].offset == 5


def test_id_in_capital_letters_is_the_same_upload(
    client: FlaskClient, url: str
) -> None:
    prefix, _, upload_id = url.rpartition("/")
    answer = client.get(f"{prefix}/{upload_id.upper()}")
    assert answer.get_json()["id"] == upload_id


@pytest.mark.parametrize(
    "form", ["{id:s}", "urn:uuid:{id}", "{{{id}}}"], ids=["hex", "urn", "braces"]
)
def test_other_spellings_of_an_id_are_unknown(
    client: FlaskClient, url: str, form: str
) -> None:
    upload_id = url.rpartition("/")[2]
    if form == "{id:s}":
        upload_id = upload_id.replace("-", "")
    assert told(client.get(f"/uploads/{form.format(id=upload_id)}")) == NOT_FOUND


def test_prefix_of_a_longer_name_is_not_ours(client: FlaskClient) -> None:
    answer = client.get("/uploadsX")
    assert answer.status_code == 404
    assert answer.mimetype == "text/html"


# -- methods ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "methods", "allow"),
    [
        ("/uploads/", ["DELETE", "TRACE", "PURGE", "MKCOL"], COLLECTION),
        ("/uploads/{id}", ["TRACE", "PURGE", "LOCK"], UPLOAD),
        ("/uploads/{id}/file", ["PUT", "POST", "DELETE"], CONTENT),
    ],
    ids=["collection", "upload", "content"],
)
def test_other_methods_are_405_with_allow(
    client: FlaskClient, url: str, path: str, methods: list[str], allow: str
) -> None:
    for method in methods:
        answer = client.open(path.format(id=url.rpartition("/")[2]), method=method)
        detail = f"Method '{method}' is not allowed here"
        assert told(answer) == (405, {"detail": detail})
        assert answer.headers["Allow"] == allow


def test_long_method_name_is_cut(client: FlaskClient) -> None:
    answer = client.open("/uploads/", method="X" * 5000)
    assert answer.get_json() == {
        "code": "method_not_allowed",
        "detail": f"Method '{'X' * 40}' is not allowed here",
    }


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/uploads", COLLECTION),
        ("/uploads/", COLLECTION),
        (f"/uploads/{UUID(int=1)}", UPLOAD),
        ("/uploads/x", UPLOAD),
        ("/uploads/x/file", CONTENT),
    ],
)
def test_options_lists_the_methods(client: FlaskClient, path: str, allow: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Allow"] == allow
    assert "Content-Type" not in answer.headers


def test_options_of_another_path_is_unknown(client: FlaskClient) -> None:
    assert told(client.options("/uploads/x/y")) == NOT_FOUND


# -- X-HTTP-Method-Override ------------------------------------------------------------


@pytest.mark.parametrize("name", ["PUT", "put", " Put "])
def test_post_may_stand_for_put(client: FlaskClient, url: str, name: str) -> None:
    answer = client.post(
        url,
        data=DATA[5:],
        headers={"Content-Range": "bytes 5-9/10", "X-HTTP-Method-Override": name},
        content_type=OCTETS,
    )
    assert state(answer) == (200, 1, 10)
    assert "upload_id" not in answer.get_json()


def test_post_may_stand_for_delete(client: FlaskClient, url: str) -> None:
    answer = client.post(url, headers={"X-HTTP-Method-Override": "DELETE"})
    assert answer.status_code == 204
    assert told(client.get(url)) == NOT_FOUND


def test_post_may_stand_for_patch_which_is_of_tus(
    client: FlaskClient, url: str
) -> None:
    answer = client.post(url, headers={"X-HTTP-Method-Override": "PATCH"})
    assert (answer.status_code, answer.mimetype) == (412, "text/plain")
    assert answer.headers["Tus-Version"] == "1.0.0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_only_post_may_stand_for_another_method(
    client: FlaskClient, url: str, method: str
) -> None:
    client.open(url, method=method, headers={"X-HTTP-Method-Override": "DELETE"})
    assert state(client.get(url)) == (200, 1, 5)


@pytest.mark.parametrize("name", ["GET", "HEAD", "OPTIONS", "X", ""])
def test_post_may_not_stand_for_other_methods(
    client: FlaskClient, url: str, name: str
) -> None:
    answer = client.post(url, headers={"X-HTTP-Method-Override": name})
    assert told(answer) == (400, {"detail": "Checksum of type 'md5' is required"})
