"""A request's memory is a constant, whatever the size of file and chunk."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import figure
from tests.servers.gunicorn import Server, serve

pytestmark = pytest.mark.slow

MIB = 2**20
#: Bytes of the file.
SIZE = int(os.environ.get("MEMORY_SIZE_MIB", "2048")) * MIB
#: Bytes of a chunk in a form.
CHUNK = 64 * MIB
#: Forms of one upload, and parts of the one form that has far too many.
FORMS = figure("MEMORY_FORMS", 10_000, 30_000)
FORM_SIZE = 4096
#: The most bytes that a request may add to its worker's peak.
MOST = 16 * MIB
BLOCK = bytes(range(256)) * (MIB // 256)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path, "--workers", "1", CHUNKED_UPLOAD_DURABLE=False) as running:
        yield running
    shutil.rmtree(tmp_path / "instance")


def peak(pid: int) -> int:
    """Bytes of the process's resident set at its largest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def send(
    server: Server,
    method: str,
    path: str,
    headers: dict[str, str],
    prefix: bytes,
    size: int,
    suffix: bytes,
) -> dict[str, object]:
    """One request whose body is made on the way."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(prefix) + size + len(suffix)}")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + prefix)
        for _ in range(size // MIB):
            connection.sendall(BLOCK)
        connection.sendall(suffix)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    parsed: dict[str, object] = json.loads(body)
    return parsed


def path_of(upload: dict[str, object]) -> str:
    return "/" + str(upload["url"]).split("/", 3)[3]


def form() -> tuple[bytes, bytes]:
    """What stands before and behind the file in a form."""
    part = '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    return part.encode(), b"\r\n--x--\r\n"


def small_upload(server: Server) -> None:
    """What every request needs once: imports, pools, the parser."""
    prefix, suffix = form()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    ranged = {**kind, "Content-Range": f"bytes 0-{MIB - 1}/{2 * MIB}"}
    upload = send(server, "PUT", "/uploads/", ranged, prefix, MIB, suffix)
    raw = {"Content-Range": f"bytes {MIB}-{2 * MIB - 1}/{2 * MIB}"}
    send(server, "PUT", path_of(upload), raw, b"", MIB, b"")


def complete(server: Server, upload: dict[str, object]) -> None:
    md5 = hashlib.md5()
    for _ in range(SIZE // MIB):
        md5.update(BLOCK)
    body = b"md5=" + md5.hexdigest().encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    done = send(server, "POST", path_of(upload), kind, body, 0, b"")
    assert (done["status"], done["offset"]) == (2, SIZE)


def test_one_raw_body(server: Server) -> None:
    small_upload(server)
    (worker,) = server.workers()
    before = peak(worker)
    headers = {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}
    upload = send(server, "PUT", "/uploads/", headers, b"", SIZE, b"")
    complete(server, upload)
    assert peak(worker) - before <= MOST


def test_one_tus_body(server: Server) -> None:
    small_upload(server)
    (worker,) = server.workers()
    before = peak(worker)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    connection.request("POST", "/uploads/", headers={**tus, "Upload-Length": str(SIZE)})
    created = connection.getresponse()
    created.read()
    body = (BLOCK for _ in range(SIZE // MIB))
    headers = {**tus, "Upload-Offset": "0", "Content-Length": str(SIZE)}
    connection.request("PATCH", created.headers["Location"], body, headers)
    done = connection.getresponse()
    assert (done.status, done.headers["Upload-Offset"]) == (204, str(SIZE))
    connection.close()
    assert peak(worker) - before <= MOST


def test_many_forms_and_one_of_many_parts(server: Server) -> None:
    small_upload(server)
    (worker,) = server.workers()
    before = peak(worker)
    prefix, suffix = form()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = prefix + BLOCK[:FORM_SIZE] + suffix
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    url, total = "/uploads/", FORMS * FORM_SIZE
    for start in range(0, total, FORM_SIZE):
        ranged = {"Content-Range": f"bytes {start}-{start + FORM_SIZE - 1}/{total}"}
        connection.request("PUT", url, body, {**kind, **ranged})
        answer = connection.getresponse()
        shown = json.loads(answer.read())
        assert (answer.status, shown["offset"]) == (200, start + FORM_SIZE)
        url = path_of(shown)
    field = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n'
    connection.request("POST", url, field * FORMS + suffix, kind)
    assert connection.getresponse().status in (400, 413)
    connection.close()
    assert peak(worker) - before <= MOST


def test_chunks_in_forms(server: Server) -> None:
    small_upload(server)
    (worker,) = server.workers()
    before = peak(worker)
    path, upload = "/uploads/", {}
    prefix, suffix = form()
    for start in range(0, SIZE, CHUNK):
        headers = {
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Range": f"bytes {start}-{start + CHUNK - 1}/{SIZE}",
        }
        upload = send(server, "PUT", path, headers, prefix, CHUNK, suffix)
        path = path_of(upload)
    complete(server, upload)
    assert peak(worker) - before <= MOST
