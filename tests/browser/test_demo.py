"""The demo page in a real Chromium, against a real gunicorn with two workers.

Needs Node, Chromium and playwright-core (``npm install --no-save playwright-core`` in
the project, or ``PLAYWRIGHT_CORE_DIR``); skipped with a reason where one is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MIB = 2**20

#: What a scenario saw, as the driver prints it.
Seen = dict[str, Any]


@dataclass(frozen=True)
class Tools:
    """What drives the page."""

    node: str
    chromium: str
    playwright: Path


def _find_tools() -> Tools | str:
    """The tools, or the reason why there are none."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not os.access(chromium, os.X_OK):
        return f"there is no Chromium at {chromium} (CHROMIUM names another place)"
    named = os.environ.get("PLAYWRIGHT_CORE_DIR")
    playwright = Path(named or PROJECT / "node_modules" / "playwright-core")
    if not (playwright / "package.json").exists():
        return f"there is no playwright-core in {playwright}"
    return Tools(node, chromium, playwright)


TOOLS = _find_tools()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(isinstance(TOOLS, str), reason=str(TOOLS)),
]


@dataclass(frozen=True)
class Demo:
    """A running demo with a directory of its own."""

    url: str
    instance: Path

    def drive(self, scenario: str, file: Path, other: Path | None = None) -> Seen:
        """Run a scenario of ``drive.mjs`` in a fresh browser."""
        assert isinstance(TOOLS, Tools)
        given = {
            "scenario": scenario,
            "url": self.url,
            "file": str(file),
            "other": str(other or file),
            "playwright": str(TOOLS.playwright),
            "chromium": TOOLS.chromium,
        }
        done = subprocess.run(
            [TOOLS.node, str(Path(__file__).with_name("drive.mjs")), json.dumps(given)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        seen: Seen = json.loads(done.stdout)
        assert seen.pop("problems") == []
        return seen

    def stored(self) -> set[str]:
        """SHA-256 of every finished file on the disk."""
        return {_sha256(path) for path in self.instance.rglob("*.done")}

    def unfinished(self) -> list[Path]:
        """Files of unfinished uploads."""
        return list(self.instance.rglob("*.part"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert server.poll() is None, "gunicorn ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("gunicorn does not answer")


def _serve(instance: Path, log: Path, **environment: str) -> Iterator[Demo]:
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers=2", "--threads=8"]
    command += ["--worker-class=gthread", f"--bind=127.0.0.1:{port}"]
    command += ["examples.demo:create_app()"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={
                **os.environ,
                **environment,
                "INSTANCE": str(instance),
                "HOME": str(log.parent),
            },
            stdout=output,
            stderr=output,
        )
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for(url, server)
            yield Demo(url, instance)
        finally:
            server.terminate()
            server.wait(timeout=40)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo with nothing in it."""
    yield from _serve(tmp_path / "instance", tmp_path / "gunicorn.log")


@pytest.fixture
def sha256_demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose server asks for SHA-256."""
    yield from _serve(
        tmp_path / "instance",
        tmp_path / "gunicorn.log",
        FLASK_CHUNKED_UPLOAD_CHECKSUM="sha256",
    )


MakeFile = Callable[..., Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Makes a file of random bytes, the same for the same seed."""

    def make(size: int, name: str = "recording.bin", seed: int = 1) -> Path:
        directory = tmp_path / f"files-{seed}"
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_bytes(random.Random(seed).randbytes(size))
        return path

    return make


def test_file_arrives_whole_and_is_offered_for_download(
    demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(30 * MIB, "Bericht, März.bin")
    seen = demo.drive("whole", file)
    assert demo.stored() == {_sha256(file)}
    assert seen["digest"] == seen["listed"] == _md5(file)
    assert seen["name"] == "Bericht, März.bin"


def test_sha256_is_made_where_the_server_asks_for_it(
    sha256_demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(9 * MIB + 1)
    seen = sha256_demo.drive("whole", file)
    assert seen["digest"] == seen["listed"] == _sha256(file)
    assert sha256_demo.stored() == {_sha256(file)}


def test_zero_byte_file_is_uploaded(demo: Demo, make_file: MakeFile) -> None:
    file = make_file(0, "nothing.txt")
    seen = demo.drive("whole", file)
    assert seen["digest"] == _md5(file)
    # The server keeps no bytes of a file without bytes, or an empty file.
    assert demo.stored() <= {_sha256(file)}


def test_paused_upload_stands_still_and_goes_on(
    demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(30 * MIB)
    seen = demo.drive("pause", file)
    assert seen["focused"] == "resume"
    assert 15 <= seen["still"] <= seen["pausedAt"] + 20 < 100
    assert demo.stored() == {_sha256(file)}


def test_cut_network_is_survived(demo: Demo, make_file: MakeFile) -> None:
    file = make_file(30 * MIB)
    seen = demo.drive("cut", file)
    assert "connection was lost" in seen["said"]
    assert demo.stored() == {_sha256(file)}


def test_unfinished_upload_goes_on_after_a_reload_with_the_same_file(
    demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(30 * MIB)
    other = make_file(1000, "another.bin")
    seen = demo.drive("reload", file, other)
    assert "That is another file" in seen["refusal"]
    assert 0 < seen["kept"] < 100
    assert not seen["first"].startswith("bytes 0-")
    assert seen["unfinished"] == 0
    assert demo.stored() == {_sha256(file)}
    assert demo.unfinished() == []


def test_file_chosen_again_is_recognised(demo: Demo, make_file: MakeFile) -> None:
    file = make_file(30 * MIB)
    seen = demo.drive("rechoose", file)
    assert not seen["first"].startswith("bytes 0-")
    assert demo.stored() == {_sha256(file)}


def test_upload_that_the_server_forgot_begins_anew(
    demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(30 * MIB)
    seen = demo.drive("gone", file)
    assert seen["first"].startswith("bytes 0-")
    assert demo.stored() == {_sha256(file)}


def test_other_bytes_under_the_same_name_are_told_by_the_checksum(
    demo: Demo, make_file: MakeFile
) -> None:
    file = make_file(30 * MIB)
    other = make_file(30 * MIB, seed=2)
    seen = demo.drive("changed", file, other)
    assert "checksums differ" in seen["said"]
    assert demo.stored() == {_sha256(other)}
    assert demo.unfinished() == []


def test_cancelled_upload_leaves_nothing(demo: Demo, make_file: MakeFile) -> None:
    seen = demo.drive("cancel", make_file(30 * MIB))
    assert seen == {"remembered": 0, "rows": 0}
    assert demo.stored() == set()
    assert demo.unfinished() == []


def test_finished_file_is_deleted(demo: Demo, make_file: MakeFile) -> None:
    seen = demo.drive("delete", make_file(MIB))
    assert "is deleted" in seen["said"]
    assert seen["rows"] == 0
    assert demo.stored() == set()


def test_controls_are_reached_by_keyboard_and_show_the_focus(
    demo: Demo, make_file: MakeFile
) -> None:
    steps = demo.drive("keyboard", make_file(1))["steps"]
    assert [step["id"] for step in steps] == ["choose", "chunk-size", "cut"]
    assert {step["outline"] for step in steps} == {"solid"}


def test_phone_has_no_horizontal_scroll(demo: Demo, make_file: MakeFile) -> None:
    name = "a-name-without-any-place-to-break-" + "x" * 120 + ".bin"
    seen = demo.drive("phone", make_file(MIB, name))
    assert seen == {"width": 360, "outside": []}


def test_missing_webassembly_is_said(demo: Demo, make_file: MakeFile) -> None:
    seen = demo.drive("no_wasm", make_file(MIB))
    assert "cannot make the checksum" in seen["said"]
    assert demo.stored() == set()


def test_client_keeps_its_head_when_answers_are_strange(
    demo: Demo, make_file: MakeFile
) -> None:
    seen = demo.drive("client", make_file(1))
    complete = {
        name
        for name, value in seen.items()
        if isinstance(value, dict) and value.get("status") == 2
    }
    assert complete == {"busy", "unloaded", "form", "early", "repeated"}
    assert seen["waited"] >= 1000  # Retry-After: 1
    assert (seen["lost"]["code"], seen["again"]) == ("network", "complete")
    assert seen["html"]["code"] == "protocol"
    assert "Quota is used up" in seen["full"]["message"]
    assert seen["types"] == ["multipart/form-data"] * 4 + [
        "application/x-www-form-urlencoded"
    ]
    assert set(seen["tokens"]) == {"t0ken"}
    assert seen["created"] == 1
    assert seen["dropped"] is True
