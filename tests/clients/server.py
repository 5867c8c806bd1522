"""A real gunicorn with two workers on a free loopback port, for clients of others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import make_app

ROOT = Path(__file__).parents[2]


def create_app() -> Flask:
    """The application that gunicorn serves; its directory is in the environment."""

    class Uploads(ChunkedUploadBlueprint):
        absolute_location = os.environ.get("CLIENTS_ABSOLUTE") == "1"

    return make_app(
        Path(os.environ["CLIENTS_TMP"]),
        blueprint_class=Uploads,
        CHUNKED_UPLOAD_DOWNLOADS=True,
        CHUNKED_UPLOAD_READ_TIMEOUT=5,
        CHUNKED_UPLOAD_CORS_ORIGINS="*",
    )


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens and where it keeps files."""

    process: subprocess.Popen[bytes]
    port: int
    tmp: Path

    @property
    def url(self) -> str:
        """The collection of uploads."""
        return f"http://127.0.0.1:{self.port}/uploads/"

    def finished(self) -> list[Path]:
        """The files of finished uploads."""
        return sorted((self.tmp / "instance").rglob("*.done"))

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(tmp: Path, *, absolute: bool = False) -> Iterator[Server]:
    """Serve for the length of the block.

    :param absolute: ``Location`` carries scheme and host.
    """
    port = free_port()
    log = tmp / "gunicorn.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
        *("--workers", "2", "--worker-class", "gthread", "--threads", "16"),
        "tests.clients.server:create_app()",
    ]
    environment = {**os.environ, "CLIENTS_TMP": str(tmp), "PYTHONPATH": str(ROOT)}
    environment["CLIENTS_ABSOLUTE"] = str(int(absolute))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        _wait(port, process, log)
        yield Server(process, port, tmp)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"gunicorn did not start:\n{log.read_text()}")
