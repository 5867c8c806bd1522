"""Coroutine hooks on real workers: awaited by threads, refused by gevent."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError
from tests.dialects.tus import BYTES
from tests.servers.gunicorn import (
    ROOT,
    create_app,
    free_port,
    gunicorn_command,
    serve,
)

pytestmark = pytest.mark.slow

APP = "tests.servers.test_coroutine_hooks:create_async_app()"


class AsyncUploads(ChunkedUploadBlueprint):
    """Every decision is awaited."""

    async def authorize(self, action: str, upload: Any) -> bool:  # type: ignore[override]
        await asyncio.sleep(0.01)
        return action != "delete"

    async def verify(self, upload: Any) -> None:
        with self.open(upload) as file:
            if file.read(4) == b"evil":
                raise ChunkedUploadError("no", status=422)


def create_async_app() -> Flask:
    """The application that gunicorn serves."""
    return create_app(AsyncUploads)


def headers(length: int) -> Mapping[str, str]:
    return {**BYTES, "Upload-Length": str(length)}


def test_threads_await_coroutine_hooks(tmp_path: Path) -> None:
    with serve(tmp_path, app=APP) as server:

        def send(data: bytes) -> tuple[int, int]:
            sent = requests.post(
                server.url, data=data, headers=headers(len(data)), timeout=60
            )
            if sent.status_code != 201:
                return sent.status_code, 0
            url = server.origin + sent.headers["Location"]
            return 201, requests.delete(url, timeout=60).status_code

        bodies = [b"good", b"evil"] * 16
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, bodies))
        assert answers == [(201, 403), (422, 0)] * 16
        assert len(server.finished()) == 16


def test_gevent_refuses_coroutine_hooks_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    bind = f"127.0.0.1:{free_port()}"
    environment = {"SERVED_TMP": str(tmp_path), "SERVED_SETTINGS": "{}"}
    done = subprocess.run(
        [*gunicorn_command("gevent", app=APP), "--bind", bind],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode
    assert "authorize() of blueprint 'uploads' is a coroutine function" in done.stderr
    assert "gevent has patched threading" in done.stderr
