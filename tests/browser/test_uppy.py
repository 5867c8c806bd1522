"""Uppy's Dashboard in a real Chromium, against a real gunicorn with two workers.

Needs what ``test_demo.py`` needs and the npm package ``uppy``: installed beside the
example, as its README says, or with its ``dist`` named by ``UPPY_DIR``.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.browser.chromium import PROJECT, Seen, drive, needs_chromium
from tests.servers.gunicorn import Server, serve

MIB = 2**20
UPPY = Path(
    os.environ.get("UPPY_DIR") or PROJECT / "examples/uppy/node_modules/uppy/dist"
)

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.skipif(
        not (UPPY / "uppy.min.mjs").is_file(), reason=f"there is no Uppy in {UPPY}"
    ),
]


@dataclass(frozen=True)
class Example:
    """The running example with files of its own."""

    server: Server
    files: Path

    def drive(self, scenario: str, *files: Path) -> Seen:
        """Run a scenario of ``drive_uppy.mjs`` in a fresh browser."""
        seen = drive(
            "drive_uppy.mjs",
            scenario,
            url=f"{self.server.origin}/",
            files=[str(file) for file in files],
        )
        assert seen.pop("problems") == []
        return seen

    def stored(self) -> list[str]:
        """SHA-256 of every finished file on the disk."""
        return sorted(sha256(path) for path in self.files.rglob("*.done"))


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    files = tmp_path / "files"
    environment = {
        "FLASK_UPPY_DIR": str(UPPY),
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/a.db",
        "FLASK_CHUNKED_UPLOAD_PATH": str(files),
        "HOME": str(tmp_path),
    }
    app = "examples.uppy:create_app()"
    with serve(tmp_path, app=app, environment=environment) as server:
        yield Example(server, files)
        assert list(files.rglob("*.part")) == []


def make_file(directory: Path, name: str, size: int) -> Path:
    """A file of random bytes, the same for the same name."""
    path = directory / name
    path.write_bytes(random.Random(name).randbytes(size))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_went_on(seen: Seen, offset: int, length: int) -> None:
    """Nothing was made anew, and no byte before the server's offset was sent again."""
    assert 0 < offset < length
    head, *patches = seen["requests"]
    assert (head["method"], head["told"]) == ("HEAD", offset)
    assert [patch["method"] for patch in patches] == ["PATCH"] * len(patches)
    # One body or several, each begins where the one before ended.
    position = offset
    for patch in patches:
        assert (patch["sent"], patch["status"]) == (position, 204)
        position = patch["told"]
    assert position == length


def test_paused_upload_stands_still_and_goes_on(
    example: Example, tmp_path: Path
) -> None:
    file = make_file(tmp_path, "paused.bin", 30 * MIB)
    seen = example.drive("pause", file)
    check_went_on(seen, seen["paused"], 30 * MIB)
    assert example.stored() == [sha256(file)]


def test_reloaded_page_goes_on_with_the_same_file(
    example: Example, tmp_path: Path
) -> None:
    file = make_file(tmp_path, "reloaded.bin", 30 * MIB)
    seen = example.drive("reload", file)
    check_went_on(seen, seen["kept"], 30 * MIB)
    assert example.stored() == [sha256(file)]


def test_three_files_arrive_at_once_and_are_linked(
    example: Example, tmp_path: Path
) -> None:
    sizes = {"first.bin": 9 * MIB, "zweite, März.bin": 5 * MIB + 1, "third.txt": 3}
    files = [make_file(tmp_path, name, size) for name, size in sizes.items()]
    seen = example.drive("several", *files)
    expected = sorted(map(sha256, files))
    assert example.stored() == expected
    answers = [requests.get(link, timeout=30) for link in seen["links"]]
    linked = [hashlib.sha256(answer.content).hexdigest() for answer in answers]
    assert sorted(linked) == expected
    created = [entry for entry in seen["requests"] if entry["method"] == "POST"]
    assert [entry["status"] for entry in created] == [201] * 3
