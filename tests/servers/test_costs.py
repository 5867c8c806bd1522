"""What a large body costs in system calls and page faults, on a real gunicorn.

Counts, not times; with room for how a body happens to come in.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

MIB = 2**20
SIZE = 256 * MIB
BLOCK = os.urandom(MIB)
#: Small uploads that are counted.
SMALL = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path, "--workers", "1") as running:
        yield running


def faults(pid: int) -> int:
    """Minor page faults of the process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[7])


@contextmanager
def traced(pid: int, table: Path) -> Iterator[dict[str, int]]:
    """Count the system calls of a process and its threads."""
    calls: dict[str, int] = {}
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-o", str(table), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    first = tracer.stderr.readline()
    if "attached" not in first:
        tracer.wait()
        tracer.stderr.close()
        pytest.skip(f"strace may not attach here: {first.strip()}")
    try:
        yield calls
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
        tracer.stderr.close()
    for line in table.read_text().splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found[2] != "total":
            calls[found[2]] = int(found[1])


def send(server: Server) -> float:
    """A tus upload in one PATCH; how many seconds it took."""
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(SIZE)}
    answer = requests.post(server.url, headers=headers, timeout=30)
    began = time.monotonic()
    with Wire(server.port) as wire:
        wire.head(
            "PATCH",
            answer.headers["Location"],
            Tus_Resumable="1.0.0",
            Upload_Offset=0,
            Content_Length=SIZE,
            Content_Type="application/offset+octet-stream",
        )
        for _ in range(SIZE // MIB):
            wire.send(BLOCK)
        assert wire.answer()[0] == 204
    return time.monotonic() - began


def send_small(server: Server, uploads: int) -> None:
    """Uploads of 4 KiB with tus, each in two requests on one connection."""
    version = {"Tus-Resumable": "1.0.0"}
    body = {**version, "Content-Type": "application/offset+octet-stream"}
    with requests.Session() as session:
        for _ in range(uploads):
            headers = {**version, "Upload-Length": "4096"}
            made = session.post(server.url, headers=headers, timeout=30)
            answer = session.patch(
                f"http://127.0.0.1:{server.port}{made.headers['Location']}",
                data=BLOCK[:4096],
                headers={**body, "Upload-Offset": "0"},
                timeout=30,
            )
            assert answer.status_code == 204


def send_at_once(server: Server, uploads: int) -> None:
    """The same in one request."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Length": "4096",
    }
    with requests.Session() as session:
        for _ in range(uploads):
            answer = session.post(
                server.url, data=BLOCK[:4096], headers=headers, timeout=30
            )
            assert answer.status_code == 201


@pytest.mark.parametrize(
    ("send_some", "most_syncs", "most_calls"),
    [
        # The row, bytes, their names, offset and completion; now and then SQLite's
        # checkpoint.
        pytest.param(send_small, 4.2, 145, id="two-requests"),
        # Bytes, their name, the row.
        pytest.param(send_at_once, 3.2, 80, id="one-request"),
    ],
)
def test_a_small_upload_costs_few_syncs_and_system_calls(
    server: Server,
    tmp_path: Path,
    send_some: Callable[[Server, int], None],
    most_syncs: float,
    most_calls: float,
) -> None:
    send_some(server, 10)
    (worker,) = server.workers()
    with traced(worker, tmp_path / "calls") as calls:
        send_some(server, SMALL)
    syncs = calls.get("fdatasync", 0) + calls.get("fsync", 0)
    assert syncs / SMALL <= most_syncs, calls
    assert sum(calls.values()) / SMALL <= most_calls, calls


def test_a_large_body_costs_few_page_faults(server: Server) -> None:
    send(server)
    (worker,) = server.workers()
    before = faults(worker)
    send(server)
    # Fresh memory for every block would be 65,536 of them.
    assert faults(worker) - before < 3000


def test_a_large_body_costs_few_system_calls(server: Server, tmp_path: Path) -> None:
    send(server)
    (worker,) = server.workers()
    with traced(worker, tmp_path / "calls") as calls:
        took = send(server)
    # A sync every 32 MiB or second, and its commit.
    assert calls["fdatasync"] <= 2 * (SIZE // (32 * MIB) + took + 4)
    # Nearly all bytes go through the pipe, and few at a time only by chance.
    assert calls["splice"] >= 2 * (SIZE // MIB) * 0.5
    assert sum(calls.values()) <= 20 * SIZE // MIB, calls
