"""Whatever a client sends: a documented status, JSON, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.figures import figure
from tests.security.world import (
    CONTENT,
    LATIN,
    NUMBERS,
    PATHS,
    PRINTABLE,
    Words,
    World,
    made,
    one_line,
    thorough,
)

#: Cases of the slow tier and of the fast one.
CASES = figure("FUZZ_CASES", 5_000, 500_000)
FAST_CASES = 120

#: 206 and 304 are of the content, for those who have a part of it, or all.
FINE = {200, 204, 206, 304}
REFUSALS = {400, 403, 404, 405, 410, 411, 412, 413, 415, 416, 503, 507}


class ContentRangeWorld(World):
    """An unfinished upload and a finished one."""

    def fillers(self) -> Sequence[Callable[[], Words]]:
        client = self.app.test_client()

        def put(content: bytes) -> str:
            ranged = {"Content-Range": f"bytes 0-{len(content) - 1}/10"}
            answer = client.put("/uploads/", data=content, headers=ranged)
            return str(answer.get_json()["id"])

        def unfinished() -> Words:
            return {"OPEN": put(CONTENT[:5])}

        def finished() -> Words:
            ids = {"DONE": put(CONTENT)}
            md5 = {"md5": "a925576942e94b2ef57a066101b48876"}
            assert client.post(f"/uploads/{ids['DONE']}", data=md5).status_code == 200
            return ids

        return unfinished, finished


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with made(ContentRangeWorld) as here:
        yield here


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


def headers_of(
    chunk: str | None, kind: str | None, others: dict[str, str]
) -> dict[str, str]:
    found = {name: one_line(value) for name, value in others.items()}
    if chunk is not None:
        found["Content-Range"] = one_line(chunk)
    if kind is not None:
        found["Content-Type"] = one_line(kind)
    return found


def check(
    world: World,
    method: str,
    path: str,
    headers: dict[str, str],
    query: str,
    body: bytes,
) -> None:
    path = world.resolve(path)
    before = world.untouched
    status, answered, said = world.call(method, path, headers, query, body)
    assert status in FINE | REFUSALS, (status, said[:200])
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
    world.repair(after)


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
    @thorough(cases)
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
        with world.case():
            check(world, method, path, headers, query, body)

    case()
    world.require_unspoilt()


def test_nothing_that_is_sent_breaks_the_server(world: World) -> None:
    run(world, FAST_CASES)


@pytest.mark.slow
def test_nothing_that_is_sent_breaks_the_server_in_many_cases(world: World) -> None:
    run(world, CASES)
