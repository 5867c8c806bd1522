"""Every call to the operating system fails once: nothing is acknowledged wrongly."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked.engine.states import Status
from tests.apps import dispose
from tests.exchange import PREFIX, finish, id_of, post_whole, put_form, put_raw
from tests.figures import figure, run_seed

from .broken_calls import Calls, Failure, short_calls
from .ground import Ground, append_staged
from .herd import run_driver
from .invariants import Known, broken, broken_at_rest, descriptors

#: Rounds on a disk that is really full, and on a file that may not grow.
FULL_DISKS = figure("FAULTS_FULL_DISKS", 100, 1_000)
FILE_LIMITS = figure("FAULTS_FILE_LIMITS", 50, 500)
#: Calls that fail in the sample of the fast tier, for each request.
SAMPLE = 3

CONTENT = random.Random(5).randbytes(9_001)
TOTAL, BEFORE = len(CONTENT), 4_000
FULL = (errno.ENOSPC, errno.EDQUOT)

GROWING = frozenset(
    {"open", "mkdir", "pwrite", "copy_file_range", "rename", "fdatasync", "fsync"}
)
FAILURES = [
    Failure(errno.EIO),
    Failure(errno.EIO, late=True),
    Failure(errno.ENOSPC, calls=GROWING),
    Failure(errno.EDQUOT, calls=frozenset({"pwrite", "copy_file_range", "fdatasync"})),
    Failure(errno.EMFILE, calls=frozenset({"open"})),
]


def eio(call: str) -> Failure:
    return Failure(errno.EIO, calls=frozenset({call}))


@dataclass(frozen=True)
class Request:
    """A request during which a call fails.

    :param before: bytes that the upload has before it; ``None``: it is created by it.
    :param send: sends it to the upload's URL.
    """

    before: int | None
    send: Callable[[FlaskClient, str], TestResponse]
    uncommitted: bool = False
    doomed: bool = False

    def prepare(self, ground: Ground) -> Known | None:
        """The upload before the request; in an app context."""
        if self.before is None:
            return None
        upload = ground.create(TOTAL)
        if self.before:
            chunk = CONTENT[: self.before]
            append_staged(ground.engine, upload, 0, chunk)
        if self.uncommitted:
            row = ground.engine.repository.get(upload.id)
            path = None if row is None else ground.stored_path(row)
            assert path is not None
            with path.open("ab") as file:
                file.write(b"uncommitted" * 100)
        return Known(upload.id, CONTENT, acked=self.before, doomed=self.doomed)


def raw(start: int, stop: int = TOTAL) -> Callable[[FlaskClient, str], TestResponse]:
    return lambda client, url: put_raw(
        client, CONTENT[start:stop], start=start, total=TOTAL, url=url
    )


def form(start: int, stop: int = TOTAL) -> Callable[[FlaskClient, str], TestResponse]:
    return lambda client, url: put_form(
        client, CONTENT[start:stop], start=start, total=TOTAL, url=url
    )


REQUESTS = {
    "creating raw chunk": Request(None, raw(0, BEFORE)),
    "creating form": Request(None, form(0, BEFORE)),
    "whole file": Request(None, lambda client, url: post_whole(client, CONTENT)),
    "first raw chunk": Request(0, raw(0, BEFORE)),
    "first form": Request(0, form(0, BEFORE)),
    "later raw chunk": Request(BEFORE, raw(BEFORE), uncommitted=True),
    "later form": Request(BEFORE, form(BEFORE), uncommitted=True),
    "completion": Request(TOTAL, lambda client, url: finish(client, url, CONTENT)),
    "completion with uncommitted bytes": Request(
        TOTAL, lambda client, url: finish(client, url, CONTENT), uncommitted=True
    ),
    "termination": Request(BEFORE, lambda client, url: client.delete(url), doomed=True),
}


def told(known: Known | None, answer: TestResponse, doomed: bool) -> Known | None:
    """What the client knows after the answer."""
    if answer.status_code != 200 or answer.json is None:
        return known
    upload_id = UUID(answer.json["id"])
    known = known or Known(upload_id, CONTENT, doomed=doomed)
    known.acked = max(known.acked, int(answer.json["offset"]))
    known.completed = answer.json["status"] == 2
    return known


def fail(directory: Path, request: Request, calls: Calls) -> TestResponse:
    """One request during which a call fails, and everything that must hold then."""
    directory.mkdir()
    ground = Ground(directory)
    try:
        with ground.app.app_context():
            known = request.prepare(ground)
            dispose(ground.app)
            before = descriptors()
            url = f"{PREFIX}/" if known is None else f"{PREFIX}/{known.id}"
            with calls.installed():
                answer = request.send(ground.app.test_client(), url)
            dispose(ground.app)
            assert descriptors() == before
            check_answer(answer, calls)
            known = told(known, answer, request.doomed)
            uploads = {} if known is None else {known.id: known}
            for row in ground.here.repository.matching():
                uploads.setdefault(row.id, Known(row.id, CONTENT))
            assert known is None or broken(ground, known) == []
            assert broken_at_rest(ground, uploads.values()) == []
            return answer
    finally:
        dispose(ground.app)
        shutil.rmtree(directory)


def check_answer(answer: TestResponse, calls: Calls) -> None:
    """A failure is told as what it is, or it did not matter."""
    if answer.status_code in (200, 204):
        return
    assert calls.failed is not None, answer.text
    full = calls.failure.code in FULL
    assert answer.status_code == (507 if full else 503), answer.text
    assert "Retry-After" in answer.headers
    assert "Errno" not in answer.text


def calls_of(directory: Path, request: Request) -> list[str]:
    """The calls of a request during which none fails."""
    calls = Calls()
    answer = fail(directory, request, calls)
    assert answer.status_code in (200, 204)
    return calls.names


@pytest.mark.parametrize("name", REQUESTS)
def test_some_call_fails_and_the_upload_goes_on(tmp_path: Path, name: str) -> None:
    request = REQUESTS[name]
    count = len(calls_of(tmp_path / "clean", request))
    assert count > 3
    for k in random.Random(name).sample(range(count), SAMPLE):
        fail(tmp_path / str(k), request, Calls(k))


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES, ids=str)
@pytest.mark.parametrize("name", REQUESTS)
def test_any_call_fails_and_the_upload_goes_on(
    tmp_path: Path, name: str, failure: Failure
) -> None:
    request, k = REQUESTS[name], 0
    refused = 0
    while True:
        calls = Calls(k, failure)
        # Stops at the first k that is not reached.
        answer = fail(tmp_path / str(k), request, calls)
        refused += answer.status_code >= 500
        if calls.failed is None:
            break
        k += 1
    if request.doomed:
        # The row was deleted before the first call: the client gets its answer.
        assert refused == 0
    else:
        assert refused > 0 or k == 0


@pytest.mark.parametrize("name", REQUESTS)
def test_short_writes_are_continued(tmp_path: Path, name: str) -> None:
    with short_calls():
        calls_of(tmp_path / "short", REQUESTS[name])


@pytest.mark.parametrize(
    ("name", "sync"),
    [
        ("first raw chunk", "fdatasync"),
        ("first raw chunk", "fsync"),
        ("later raw chunk", "fdatasync"),
        ("first form", "fdatasync"),
        ("first form", "fsync"),
    ],
)
def test_bytes_whose_sync_failed_are_written_again(
    tmp_path: Path, name: str, sync: str
) -> None:
    ground = Ground(tmp_path)
    request = REQUESTS[name]
    with ground.open():
        known = request.prepare(ground)
        assert known is not None
        client, url = ground.app.test_client(), f"{PREFIX}/{known.id}"
        # Makes the directories, so that the only sync left is that of the commit.
        other = REQUESTS["first form"].prepare(ground)
        assert other is not None
        assert put_raw(client, CONTENT, url=f"{PREFIX}/{other.id}").status_code == 200
        with Calls(0, eio(sync)).installed():
            assert request.send(client, url).status_code == 503
        assert client.head(url).headers["Upload-Offset"] == str(request.before)
        again = Calls()
        with again.installed():
            assert request.send(client, url).status_code == 200
        moved = max(
            index
            for index, call in enumerate(again.names)
            if call in ("pwrite", "rename", "copy_file_range")
        )
        assert "pwrite" in again.names
        assert sync in again.names[moved:]
        known.acked = BEFORE
        assert broken_at_rest(ground, [known]) == []


NO_SPACE = Failure(errno.ENOSPC, calls=frozenset({"pwrite"}))


def test_refused_creation_leaves_nothing(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    with ground.open():
        for name in ("creating raw chunk", "creating form", "whole file"):
            with Calls(0, NO_SPACE).installed():
                answer = REQUESTS[name].send(ground.app.test_client(), f"{PREFIX}/")
            assert answer.status_code == 507
            assert list(ground.here.repository.matching()) == []
        files = [path for path in (tmp_path / "instance").rglob("*") if path.is_file()]
        assert files == []


def test_completion_that_failed_is_not_complete(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    with ground.open():
        client = ground.app.test_client()
        assert put_raw(client, CONTENT).status_code == 200
        (row,) = ground.here.repository.matching()
        url = f"{PREFIX}/{row.id}"
        with Calls(0, eio("rename")).installed():
            assert finish(client, url, CONTENT).status_code == 503
        again = ground.engine.repository.get(id_of(url))
        assert again is not None
        # The file is finished before the row says so.
        assert again.status is Status.UPLOADING
        assert finish(client, url, CONTENT).status_code == 200


# -- the real thing --------------------------------------------------------------------


def may_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


rounds = pytest.mark.parametrize(
    "share",
    [pytest.param(50, id="sample"), pytest.param(1, id="all", marks=pytest.mark.slow)],
)


@rounds
@pytest.mark.parametrize("what", ["storage", "everything"])
def test_full_disk_refuses_and_goes_on_when_there_is_space(
    tmp_path: Path, what: str, share: int
) -> None:
    if not may_mount():
        pytest.skip("unshare -rm may not mount a tmpfs here")
    count = max(1, FULL_DISKS // share)
    run_driver(
        "tests.faults.small_disk",
        tmp_path,
        what,
        count,
        "--seed",
        run_seed(),
        timeout=300,
    )


@rounds
def test_file_limit_refuses_and_goes_on_when_it_is_raised(
    tmp_path: Path, share: int
) -> None:
    count = max(1, FILE_LIMITS // share)
    run_driver(
        "tests.faults.small_disk",
        tmp_path,
        "limit",
        count,
        "--seed",
        run_seed(),
        timeout=300,
    )
