"""Digests behind the body (tus, checksum-trailer), where servers pass trailers on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.dialects.tus import BYTES, TUS, checksum
from tests.servers.gunicorn import Server, serve
from tests.servers.others import Nginx, serve_kind
from tests.servers.wire import Wire

BODY = b"abcdefghij" * 1000
RIGHT = checksum("sha1", BODY)
WRONG = checksum("sha1", BODY[:-1])

#: Servers, and whether applications on them see trailers.
SERVERS = {
    "gunicorn-gthread": True,
    "gunicorn-sync": True,
    "gunicorn-gevent": True,
    "cheroot": True,
    "werkzeug": False,
    "waitress": False,
    "gevent": False,
}


def create(url: str) -> str:
    """The path of a new upload as long as the body."""
    headers = {**TUS, "Upload-Length": str(len(BODY))}
    answer = requests.post(url, headers=headers, timeout=10)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def offset_of(port: int, path: str) -> int:
    url = f"http://127.0.0.1:{port}{path}"
    return int(requests.head(url, headers=TUS, timeout=10).headers["Upload-Offset"])


def advertises(url: str) -> bool:
    answer = requests.options(url, timeout=10)
    return "checksum-trailer" in answer.headers["Tus-Extension"].split(",")


def chunked(body: bytes, *trailers: str) -> bytes:
    """The body in chunks of different sizes, and what comes behind it."""
    sent = b""
    size = 1
    while body:
        chunk, body = body[:size], body[size:]
        sent += b"%x\r\n%s\r\n" % (len(chunk), chunk)
        size *= 7
    return (
        sent
        + "".join(["0\r\n", *(f"{line}\r\n" for line in trailers), "\r\n"]).encode()
    )


def patch(
    wire: Wire, path: str, *trailers: str, announced: str | None, **headers: str
) -> int:
    """The status of a chunked PATCH at 0 with these trailers."""
    told = {**BYTES, "Upload-Offset": "0", "Transfer-Encoding": "chunked", **headers}
    if announced is not None:
        told["Trailer"] = announced
    wire.head("PATCH", path, **told)
    wire.send(chunked(BODY, *trailers))
    return wire.answer()[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp = tmp_path_factory.mktemp("server")
    # As in production: what nobody expected is a 500.
    with serve(tmp, PROPAGATE_EXCEPTIONS=False) as running:
        yield running


def test_gunicorn_advertises_trailers(server: Server) -> None:
    assert advertises(server.url)


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        pytest.param([f"Upload-Checksum: {RIGHT}"], 204, id="right"),
        pytest.param([f"upload-checksum:{RIGHT}  "], 204, id="right-in-lower-case"),
        pytest.param(
            ["Upload-Checksum: " + checksum("crc32", BODY)], 204, id="right-crc32"
        ),
        pytest.param(
            ["Other: 1", f"Upload-Checksum: {RIGHT}", "More: 2"], 204, id="among-others"
        ),
        pytest.param([f"Upload-Checksum: {WRONG}"], 460, id="wrong"),
        pytest.param([], 400, id="missing"),
        pytest.param(["Other: 1"], 400, id="another-one"),
        pytest.param(["Upload-Checksum: sha1"], 400, id="malformed"),
        pytest.param(["Upload-Checksum: sha384 AAAA"], 400, id="unknown-algorithm"),
        pytest.param(["Upload-Checksum:"], 400, id="empty"),
    ],
)
def test_rule_46_the_trailer_decides(
    server: Server, trailers: list[str], status: int
) -> None:
    path = create(server.url)
    with Wire(server.port) as wire:
        got = patch(wire, path, *trailers, announced="Upload-Checksum")
        assert got == status
        kept = len(BODY) if status == 204 else 0
        assert offset_of(server.port, path) == kept
        if not wire.is_last:
            # The connection is where the next request begins.
            wire.head("HEAD", path, **TUS)
            assert wire.answer()[0] == 200
            assert wire.fields["upload-offset"] == str(kept)


@pytest.mark.parametrize(
    ("header", "trailer", "status"),
    [
        (RIGHT, RIGHT, 204),
        (checksum("md5", BODY), RIGHT, 204),
        (RIGHT, WRONG, 460),
        (WRONG, RIGHT, 460),
    ],
    ids=["both-right", "two-algorithms", "wrong-trailer", "wrong-header"],
)
def test_rule_46_header_and_trailer_must_both_match(
    server: Server, header: str, trailer: str, status: int
) -> None:
    path = create(server.url)
    with Wire(server.port) as wire:
        got = patch(
            wire,
            path,
            f"Upload-Checksum: {trailer}",
            announced="upload-checksum",
            **{"Upload-Checksum": header},
        )
    assert got == status
    assert offset_of(server.port, path) == (len(BODY) if status == 204 else 0)


def test_rule_46_a_trailer_nobody_announced_decides_nothing(server: Server) -> None:
    path = create(server.url)
    with Wire(server.port) as wire:
        assert patch(wire, path, f"Upload-Checksum: {WRONG}", announced=None) == 204
    assert offset_of(server.port, path) == len(BODY)


def test_rule_46_a_body_with_a_length_has_no_trailer(server: Server) -> None:
    require_no_trailer(server)


def require_no_trailer(server: Server | Nginx) -> None:
    path = create(server.url)
    headers = {**BYTES, "Upload-Offset": "0", "Trailer": "Upload-Checksum"}
    url = f"http://127.0.0.1:{server.port}{path}"
    answer = requests.patch(url, data=BODY, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert offset_of(server.port, path) == 0


def test_rule_43_a_body_cut_before_its_trailer_is_dropped(server: Server) -> None:
    path = create(server.url)
    with Wire(server.port) as wire:
        told = {**BYTES, "Upload-Offset": "0", "Trailer": "Upload-Checksum"}
        wire.head("PATCH", path, Transfer_Encoding="chunked", **told)
        wire.send(chunked(BODY).removesuffix(b"0\r\n\r\n"))
        wire.fin()
        status, _ = wire.answer()
    assert status >= 400
    assert offset_of(server.port, path) == 0


@pytest.mark.parametrize("announced", ["Upload-Checksum", None])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"0\r\nno colon\r\n\r\n", id="no-colon"),
        pytest.param(b"0\r\nContent-Length: 5\r\n\r\n", id="forbidden"),
        pytest.param(b"0\r\nA: b\n\r\n\r\n", id="bare-newline"),
        pytest.param(b"0\r\n" + b"A: b\r\n" * 9000 + b"\r\n", id="far-too-many"),
        pytest.param(b"0\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", id="far-too-long"),
        pytest.param(b"0;\rx\r\n\r\n", id="bad-extension"),
        pytest.param(b"x\r\n\r\n", id="no-size"),
    ],
)
def test_a_malformed_end_of_a_chunked_body_is_the_clients_fault(
    server: Server, announced: str | None, end: bytes
) -> None:
    path = create(server.url)
    told = {**BYTES, "Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    if announced is not None:
        told["Trailer"] = announced
    with Wire(server.port) as wire:
        wire.head("PATCH", path, **told)
        # A server that has seen enough does not read the rest, and its answer to who
        # still sends is lost with the connection.
        with contextlib.suppress(ConnectionError):
            wire.send(chunked(BODY).removesuffix(b"0\r\n\r\n") + end)
            status, _ = wire.answer()
            assert status in (400, 503)
            # What follows cannot be told from a request.
            with pytest.raises(ConnectionError):
                wire.answer()
    # Of a body that is not to be checked the server may have handed over all or none.
    assert offset_of(server.port, path) in ([0] if announced else [0, len(BODY)])


def test_rule_46_a_creation_is_decided_by_its_trailer_too(server: Server) -> None:
    told = {**BYTES, "Upload-Length": str(len(BODY)), "Trailer": "Upload-Checksum"}
    for digest, status in ((WRONG, 460), (RIGHT, 201)):
        with Wire(server.port) as wire:
            wire.head("POST", "/uploads/", Transfer_Encoding="chunked", **told)
            wire.send(chunked(BODY, f"Upload-Checksum: {digest}"))
            assert wire.answer()[0] == status
            assert ("location" in wire.fields) is (status == 201)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_what_a_server_advertises_it_does(tmp_path: Path, kind: str) -> None:
    with serve_kind(kind, tmp_path) as running:
        arrives = advertises(running.url)
        assert arrives is SERVERS[kind]
        for trailers, expected in (
            ([f"Upload-Checksum: {RIGHT}"], 204),
            (["Some: 1", f"Upload-Checksum: {RIGHT}", "More: 2"], 204),
            ([f"Upload-Checksum: {WRONG}"], 460),
            ([], 400),
        ):
            path = create(running.url)
            with Wire(running.port) as wire:
                status = patch(wire, path, *trailers, announced="Upload-Checksum")
                if status == 204 and not wire.is_last:
                    # Not a byte of it is left for the next request.
                    wire.head("HEAD", path, **TUS)
                    assert wire.answer()[0] == 200
            if not arrives:
                # Refused, by us or by a server that takes no chunked body.
                expected = status if status in (400, 411) else 400
            assert status == expected
            assert offset_of(running.port, path) == (len(BODY) if status == 204 else 0)
        require_no_trailer(running)
