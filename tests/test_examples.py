"""Every example runs, as its docstring says."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.test import TestResponse

from examples import custom_model, quickstart, uppy
from examples.resume_with_requests import upload as resume
from tests.apps import dispose
from tests.exchange import md5

ROOT = Path(__file__).parents[1]
MP4 = b"\0\0\0\x18ftypmp42" + bytes(6000)


@pytest.fixture
def app(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    """The app of an example, with its instance below ``tmp_path``."""
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("FLASK_CHUNKED_UPLOAD_PATH", str(tmp_path / "files/%Y"))
    app = request.param.create_app()
    app.instance_path = str(tmp_path / "instance")
    yield app
    dispose(app)


def body_of(answer: TestResponse) -> dict[str, Any]:
    """The JSON object that was answered."""
    body = answer.get_json()
    assert isinstance(body, dict)
    return body


def test_quickstart_is_short() -> None:
    lines = (ROOT / "examples/quickstart.py").read_text().splitlines()
    assert len(lines) < 25


@pytest.mark.parametrize("app", [quickstart], indirect=True)
def test_quickstart_takes_a_file(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    chunk = {"Content-Range": "bytes 0-4/5"}
    url = body_of(client.put("/uploads/", data=b"hello", headers=chunk))["url"]
    answer = client.post(str(url), data={"md5": md5(b"hello")})
    assert body_of(answer)["status"] == 2
    (stored,) = (tmp_path / "files").rglob("*.done")
    assert stored.read_bytes() == b"hello"


@pytest.mark.parametrize("app", [quickstart], indirect=True)
def test_quickstart_is_configured_by_the_environment(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_CHUNKED_UPLOAD_MAX_BYTES", "4B")
    limited = quickstart.create_app()
    chunk = {"Content-Range": "bytes 0-4/5"}
    answer = limited.test_client().put("/uploads/", data=b"hello", headers=chunk)
    dispose(limited)
    assert body_of(answer)["detail"] == "Size of file exceeds the limit (4 bytes)"


@pytest.mark.parametrize("app", [custom_model], indirect=True)
def test_custom_model_keeps_its_policy(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()

    def send(name: str, body: bytes, **fields: str) -> tuple[int, dict[str, Any]]:
        answer = client.post(
            "/videos/",
            query_string={"filename": name, **fields},
            data=body,
            content_type="application/octet-stream",
        )
        return answer.status_code, body_of(answer)

    digest = hashlib.sha256(MP4).hexdigest()
    assert send("a.mp4", MP4, title="T", sha256=digest)[0] == 401
    assert client.post("/login", data={"name": "ann"}).status_code == 200
    assert send("a.mp4", MP4, sha256=digest)[0] == 400
    assert send("a.txt", MP4, title="T", sha256=digest)[0] == 422
    assert send("a.mp4", b"no video at all", title="T", sha256="0")[0] == 422
    status, answer = send("a.mp4", MP4, title="T", sha256=digest)
    assert (status, answer["state"]) == (200, "in the library")
    moved = Path(app.instance_path) / "library" / f"{answer['id']}.mp4"
    assert moved.read_bytes() == MP4
    assert client.delete(f"/videos/{answer['id']}").status_code == 403


def test_uppy_page_is_served_with_the_files_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "dist"
    directory.mkdir()
    (directory / "uppy.min.mjs").write_text("export {}")
    (directory / "uppy.min.css").write_text("")
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("FLASK_UPPY_DIR", str(directory))
    app = uppy.create_app()
    client = app.test_client()
    page = client.get("/")
    assert page.status_code == 200
    named = re.findall(r'"(/uppy/[^"]+)"', page.text)
    assert sorted(named) == ["/uppy/uppy.min.css", "/uppy/uppy.min.mjs"]
    for url in named:
        with client.get(url) as answer:
            assert answer.status_code == 200
    with client.get("/uppy/uppy.min.mjs") as answer:
        assert answer.mimetype == "text/javascript"
    dispose(app)


def test_uppy_page_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("FLASK_UPPY_DIR", str(tmp_path / "nowhere"))
    app = uppy.create_app()
    answer = app.test_client().get("/")
    assert answer.status_code == 503
    assert "npm install" in answer.text
    assert str(tmp_path / "nowhere") in answer.text
    dispose(app)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The quickstart under the development server, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/a.db",
        "FLASK_CHUNKED_UPLOAD_PATH": str(tmp_path / "files/%Y"),
    }
    command = [sys.executable, "-m", "flask", "--app", "examples.quickstart"]
    process = subprocess.Popen(
        [*command, "run", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/uploads/"
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


class CuttingProxy:
    """Hands connections through and cuts the first ones after some bytes."""

    def __init__(self, target: tuple[str, int], cuts: list[int]) -> None:
        self._target = target
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.cut = 0
        self._run(self._accept)

    def close(self) -> None:
        """End all connections and threads."""
        for each in self._sockets:
            _shut(each)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            limit = self._cuts.pop(0) if self._cuts else None
            self._run(self._pump, near, far, limit)
            self._run(self._pump, far, near, None)

    def _pump(
        self, source: socket.socket, sink: socket.socket, most: int | None
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                passed += len(data)
                if most is not None and passed >= most:
                    self.cut += 1
                    break
        _shut(source)
        _shut(sink)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def test_the_client_goes_on_after_cuts(server: str, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 11)
    source = tmp_path / "large.bin"
    source.write_bytes(content)
    port = int(re.findall(r":(\d+)/", server)[0])
    proxy = CuttingProxy(("127.0.0.1", port), [2**20 + 500_000, 400_000, 300_000])
    try:
        through = server.replace(f":{port}/", f":{proxy.port}/")
        done = resume(through, source, chunk_size=2**20)
    finally:
        proxy.close()
    assert proxy.cut >= 1
    assert (done["status"], done["offset"]) == (2, len(content))
    (stored,) = (tmp_path / "files").rglob("*.done")
    assert stored.read_bytes() == content


def test_the_client_started_again_goes_on(server: str, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(b"abcdefghij")
    chunk = {"Content-Range": "bytes 0-3/10"}
    begun = requests.put(server, data=b"abcd", headers=chunk, timeout=10).json()
    script = str(ROOT / "examples/resume_with_requests.py")
    finished = subprocess.run(
        [sys.executable, script, server, str(source), begun["url"]],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.stdout == "complete: upload, 10 bytes\n", finished.stderr
