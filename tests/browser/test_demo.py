"""The demo page in a real Chromium, against a real gunicorn with two workers.

Needs Node, Chromium and playwright-core (``npm install --no-save playwright-core`` in
the project, or ``PLAYWRIGHT_CORE_DIR``); skipped with a reason where one is missing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.chromium import Seen, drive, needs_chromium
from tests.servers.gunicorn import serve

MIB = 2**20

pytestmark = [pytest.mark.browser, needs_chromium]


@dataclass(frozen=True)
class Demo:
    """A running demo with a directory of its own."""

    url: str
    instance: Path

    def drive(self, scenario: str, file: Path, other: Path | None = None) -> Seen:
        """Run a scenario of ``drive.mjs`` in a fresh browser."""
        seen = drive(
            "drive.mjs",
            scenario,
            url=self.url,
            file=str(file),
            other=str(other or file),
        )
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


def _serve(tmp: Path, **environment: str) -> Iterator[Demo]:
    instance = tmp / "instance"
    environment |= {"INSTANCE": str(instance), "HOME": str(tmp)}
    app = "examples.demo:create_app()"
    with serve(tmp, app=app, environment=environment) as server:
        yield Demo(f"{server.origin}/", instance)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo with nothing in it."""
    yield from _serve(tmp_path)


@pytest.fixture
def sha256_demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose server asks for SHA-256."""
    yield from _serve(tmp_path, FLASK_CHUNKED_UPLOAD_CHECKSUM="sha256")


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
