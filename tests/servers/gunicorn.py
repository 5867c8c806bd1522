"""A real gunicorn on a free loopback port, with its workers in reach."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import make_app

ROOT = Path(__file__).parents[2]
TESTS_APP = "tests.servers.gunicorn:create_app()"


def create_app(base: type[ChunkedUploadBlueprint] = ChunkedUploadBlueprint) -> Flask:
    """The application that gunicorn serves; its directory is in the environment."""
    settings = json.loads(os.environ["SERVED_SETTINGS"])
    config = {key: value for key, value in settings.items() if key.isupper()}
    attributes = {key: settings[key] for key in settings.keys() - config.keys()}
    uploads = type("Uploads", (base,), attributes)
    tmp = Path(os.environ["SERVED_TMP"])
    return make_app(tmp, blueprint_class=uploads, **config)


class Server:
    """One server with its workers: where it listens and where it keeps files.

    :param command: starts it; takes ``--bind HOST:PORT``.
    :param settings: of the tests' application, as :func:`serve` takes them.
    :param environment: variables over those of this process.
    """

    def __init__(
        self,
        tmp: Path,
        command: list[str],
        settings: Mapping[str, object],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.tmp = tmp
        self.port = free_port()
        self._log = tmp / "gunicorn.log"
        self._command = [*command, "--bind", f"127.0.0.1:{self.port}"]
        self._environment = {
            **os.environ,
            "SERVED_TMP": str(tmp),
            "SERVED_SETTINGS": json.dumps(settings),
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        self.start_again()

    @property
    def origin(self) -> str:
        """The server itself, without a slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The collection of uploads."""
        return f"{self.origin}/uploads/"

    @property
    def log(self) -> str:
        """What the server has said."""
        return self._log.read_text()

    def finished(self) -> list[Path]:
        """The files of finished uploads."""
        return sorted((self.tmp / "instance").rglob("*.done"))

    @property
    def pid(self) -> int:
        """Of the master."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            return []
        return [int(child) for child in children.split()]

    def start_again(self) -> None:
        """Start; after :meth:`kill_all` on the same port with the same files."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        if not wait_for_port(self.port, self._process):
            raise RuntimeError(f"the server did not start:\n{self.log}")

    def kill_all(self) -> None:
        """kill -9, the master first so that it starts no more workers."""
        # One that is being started just now is among those that are listed then.
        self._process.send_signal(signal.SIGSTOP)
        workers = self.workers()
        self._process.kill()
        for pid in workers:
            kill_worker(pid)
        self._process.wait(5)
        # One that is in a long system call dies behind it, and listens until then.
        while any(map(_is_running, workers)):
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop as an administrator would."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill_all()


def kill_worker(pid: int) -> bool:
    """kill -9; False where it is dead already: of another kill, not long ago."""
    if not _is_running(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _is_running(pid: int) -> bool:
    """Does any thread of it live? The first may be dead while another one syncs."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return any(" Z " not in (one / "stat").read_text() for one in threads)
    except OSError:
        # Gone, or one of its threads between the two looks: look again then.
        return Path(f"/proc/{pid}/task").exists()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Does the process listen, within half a minute?"""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


def gunicorn_command(
    worker_class: str = "gthread", *options: str, app: str = TESTS_APP
) -> list[str]:
    """Two workers of sixteen threads that serve an application."""
    return [
        *(sys.executable, "-m", "gunicorn", app),
        *("--workers", "2", "--worker-class", worker_class, "--threads", "16"),
        *options,
    ]


@contextmanager
def serve(
    tmp: Path,
    *options: str,
    app: str = TESTS_APP,
    environment: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[Server]:
    """Serve for the length of the block.

    :param options: of gunicorn, over two workers of sixteen threads.
    :param app: another application than the tests' own.
    :param environment: variables over those of this process.
    :param settings: of the tests' application: keys of its configuration and, in lower
        case, attributes of its blueprint.
    """
    command = gunicorn_command("gthread", *options, app=app)
    server = Server(tmp, command, settings, environment)
    try:
        yield server
    finally:
        server.stop()
    assert "Traceback" not in server.log, server.log
