"""Whatever a client sends: a documented status, JSON, and nothing left behind.

Header values go into the environ as a server would put them there, so that also those
are tried which a polite client refuses to send.
"""

from __future__ import annotations

import io
import json
import os
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import run_wsgi_app

from tests.apps import dispose, make_app, rows, stored_files

#: Cases of the slow tier and of the fast one.
CASES = int(os.environ.get("FUZZ_CASES", "10000"))
FAST_CASES = 250

DOCUMENTED = {200, 204, 400, 403, 404, 405, 410, 411, 412, 413, 415, 416, 503, 507}

CONTENT = b"abcdefghij"


class World:
    """One app for all cases, with a few uploads that no case may spoil."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.app: Flask = make_app(tmp, CHUNKED_UPLOAD_DOWNLOADS=True)
        client = self.app.test_client()
        ranged = {"Content-Range": "bytes 0-4/10"}
        answer = client.put("/uploads/", data=CONTENT[:5], headers=ranged)
        self.open: str = answer.get_json()["id"]
        answer = client.put(
            "/uploads/", data=CONTENT, headers={"Content-Range": "bytes 0-9/10"}
        )
        self.done: str = answer.get_json()["id"]
        client.post(
            f"/uploads/{self.done}",
            data={"md5": "a925576942e94b2ef57a066101b48876"},
        )

    def call(
        self, method: str, path: str, headers: dict[str, str], query: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)),
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            plain = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
            environ[key if plain else f"HTTP_{key}"] = value
        app_iter, status, answered = run_wsgi_app(self.app, environ, buffered=True)
        return int(status[:3]), dict(answered), b"".join(app_iter)

    def snapshot(self) -> dict[str, tuple[int, str]]:
        return {str(r.id): (r.offset, r.status.value) for r in rows(self.app)}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        made = World(Path(name))
        yield made
        dispose(made.app)


LATIN = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
NUMBERS = st.sampled_from(
    [
        "0",
        "4",
        "5",
        "9",
        "10",
        "-1",
        "+5",
        "1e3",
        "9" * 19,
        "9" * 25,
        "9" * 5000,
        "\xb2",
        " 5",
        "5 ",
        "0x5",
        "",
        "*",
        str(2**63),
        str(2**63 - 1),
    ]
)
RANGES = st.one_of(
    LATIN,
    st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS),
    st.builds(
        "{} 5-9/10".format, st.sampled_from(["bytes", "Bytes", "items", "", "b"])
    ),
    st.sampled_from(["bytes 5-9/10", "bytes */0", "bytes */10", "bytes 5-9/*"]),
    st.builds("bytes 5-9/10{}".format, LATIN),
)
TYPES = st.one_of(
    LATIN,
    st.sampled_from(
        [
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\xff",
            "multipart/mixed; boundary=x",
            "application/x-www-form-urlencoded",
            "application/json",
            "application/octet-stream",
            "",
        ]
    ),
)
PIECES = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"--x",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n',
        b'Content-Disposition: form-data; name="file"\r\n\r\n',
        b'Content-Disposition: form-data; name="md5"\r\n\r\n',
        b'Content-Disposition: form-data; name="\xff\x00"; filename="\xff"\r\n\r\n',
        b"Content-Disposition: attachment\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=y\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"fghij",
        b"\x00\xff" * 40,
        b"X-" + b"a" * 9000 + b": b\r\n",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=80),
    st.lists(PIECES, max_size=9).map(b"".join),
    st.sampled_from(
        [
            b"md5=",
            b"md5=" + b"0" * 32,
            b"upload_id=%00&md5=x",
            b"a=" + b"%" * 50,
            b"{}",
            b"[]",
            b"nul",
            b'{"md5": 5, "upload_id": {"a": 1}}',
            b"[" * 30_000,
            b'{"a": "' + b"b" * 70_000 + b'"}',
            b"a&" * 5000,
        ]
    ),
)
PRINTABLE = st.text(string.printable, max_size=30)
NAMES = st.sampled_from(
    [
        "Content-Disposition",
        "Range",
        "If-Range",
        "If-None-Match",
        "If-Modified-Since",
        "X-HTTP-Method-Override",
        "Transfer-Encoding",
        "Content-Encoding",
        "Expect",
        "Content-Length",
        "Cookie",
        "X-Forwarded-Host",
        "Upload-Offset",
    ]
)
VALUES = st.one_of(
    LATIN,
    NUMBERS,
    st.sampled_from(
        [
            "PUT",
            "DELETE",
            "chunked",
            "gzip",
            "bytes=0-4",
            "bytes=9999-",
            "bytes=-0",
            "bytes=a-b,c-d",
            'attachment; filename="%ff%00../../x"',
            "attachment; filename*=UTF-8''%e4",
            "attachment; filename*=utf-8'" + "'" * 50,
            "x" * 16_384,
        ]
    ),
)
QUERIES = st.one_of(
    PRINTABLE,
    st.builds(
        "{}={}".format,
        st.sampled_from(
            [
                "status",
                "page",
                "per_page",
                "cursor",
                "count",
                "upload_id",
                "md5",
                "filename",
                "file",
            ]
        ),
        st.one_of(NUMBERS, PRINTABLE, st.sampled_from(["all", "W10", "bnVsbA", "%00"])),
    ),
)
METHODS = st.sampled_from(
    [
        "GET",
        "HEAD",
        "PUT",
        "PUT",
        "PUT",
        "POST",
        "POST",
        "POST",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "BREW",
        "put",
    ]
)
IDS = st.sampled_from(
    [
        "OPEN",
        "OPEN",
        "DONE",
        "NOT",
        "..",
        ".",
        "%2e%2e",
        "x" * 5000,
        "a\x00b",
        "\u202e",
        "OPEN/",
        "OPEN/file",
        "DONE/file",
        "OPEN/x",
        "/OPEN",
        "OPEN//",
        "static",
        "NOT ",
        "{OPEN}",
        "urn:uuid:OPEN",
        "0x5",
        "1",
        "null",
    ]
)
PATHS = st.one_of(
    st.just("/uploads/"),
    st.just("/uploads"),
    IDS.map("/uploads/{}".format),
    PRINTABLE.map(lambda text: "/uploads/" + text.replace("?", "")),
)


def headers_of(
    chunk: str | None, kind: str | None, others: dict[str, str]
) -> dict[str, str]:
    found = {
        name: value.replace("\n", "").replace("\r", "")
        for name, value in others.items()
    }
    if chunk is not None:
        found["Content-Range"] = chunk.replace("\n", "").replace("\r", "")
    if kind is not None:
        found["Content-Type"] = kind.replace("\n", "").replace("\r", "")
    return found


def check(
    world: World,
    method: str,
    path: str,
    headers: dict[str, str],
    query: str,
    body: bytes,
) -> None:
    path = path.replace("OPEN", world.open).replace("DONE", world.done)
    path = path.replace("NOT", "00000000-0000-4000-8000-000000000000")
    before = world.snapshot()
    status, answered, said = world.call(method, path, headers, query, body)
    assert status in DOCUMENTED, (status, said[:200])
    redirects = 300 <= status < 400
    assert not redirects
    override = headers.get("X-HTTP-Method-Override", "").strip().upper()
    if method == "PATCH" or (method == "POST" and override == "PATCH"):
        # Only tus has it, and none of these cases names its version.
        assert (status, answered["Tus-Version"]) == (412, "1.0.0")
    elif status >= 400 and method != "HEAD":
        assert answered["Content-Type"].startswith("application/json")
        assert json.loads(said)["detail"]
        assert answered["Cache-Control"] == "no-store"
    after = world.snapshot()
    if status >= 400:
        assert set(after) <= set(before)
    repair(world, before, after)


def repair(world: World, before: Any, after: Any) -> None:
    """Remove what a lucky case made, and make again what it removed or moved."""
    if before == after:
        return
    client = world.app.test_client()
    for name in set(after) - {world.open, world.done}:
        assert client.delete(f"/uploads/{name}").status_code == 204
    if after.get(world.open) != (5, "uploading") or world.done not in after:
        for name in (world.open, world.done):
            client.delete(f"/uploads/{name}")
        assert world.snapshot() == {}
        assert stored_files(world.tmp) == []
        fresh = World.__new__(World)
        fresh.tmp, fresh.app = world.tmp, world.app
        ranged = {"Content-Range": "bytes 0-4/10"}
        answer = client.put("/uploads/", data=CONTENT[:5], headers=ranged)
        world.open = answer.get_json()["id"]
        ranged = {"Content-Range": "bytes 0-9/10"}
        answer = client.put("/uploads/", data=CONTENT, headers=ranged)
        world.done = answer.get_json()["id"]
        client.post(
            f"/uploads/{world.done}",
            data={"md5": "a925576942e94b2ef57a066101b48876"},
        )


CASE = {
    "method": METHODS,
    "path": PATHS,
    "chunk": st.none() | RANGES,
    "kind": st.none() | TYPES,
    "others": st.dictionaries(NAMES, VALUES, max_size=3),
    "query": st.just("") | QUERIES,
    "body": BODIES,
}


def run(world: World, cases: int) -> None:
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(**CASE)
    def case(
        method: str,
        path: str,
        chunk: str | None,
        kind: str | None,
        others: dict[str, str],
        query: str,
        body: bytes,
    ) -> None:
        headers = headers_of(chunk, kind, others)
        query = query.encode("ascii", "replace").decode().replace("\n", "")
        check(world, method, path, headers, query, body)

    case()
    client = world.app.test_client()
    assert client.get(f"/uploads/{world.open}").get_json()["offset"] == 5
    left = [path for path in stored_files(world.tmp) if ".staging" in path.parts]
    assert left == []


def test_nothing_that_is_sent_breaks_the_server(world: World) -> None:
    run(world, FAST_CASES)


@pytest.mark.slow
def test_nothing_that_is_sent_breaks_the_server_in_many_cases(world: World) -> None:
    run(world, CASES)
