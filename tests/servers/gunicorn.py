"""A real gunicorn on a free loopback port, with its workers in reach."""

from __future__ import annotations

import json
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

from tests.apps import make_app

ROOT = Path(__file__).parents[2]


def create_app() -> Flask:
    """The application that gunicorn serves; its directory is in the environment."""

    settings = json.loads(os.environ["SERVED_SETTINGS"])
    return make_app(Path(os.environ["SERVED_TMP"]), **settings)


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
def serve(tmp: Path, *options: str, **settings: object) -> Iterator[Server]:
    """Serve for the length of the block.

    :param options: of gunicorn, over two workers of sixteen threads.
    :param settings: keys of the application's configuration.
    """
    port = free_port()
    log = tmp / "gunicorn.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
        *("--workers", "2", "--worker-class", "gthread", "--threads", "16"),
        *options,
        "tests.servers.gunicorn:create_app()",
    ]
    environment = {
        **os.environ,
        "SERVED_TMP": str(tmp),
        "SERVED_SETTINGS": json.dumps(settings),
        "PYTHONPATH": str(ROOT),
    }
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
