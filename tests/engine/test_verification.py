"""Long calls of ``verify``: one at a time, renewed, released, waited for."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from flask_chunked.engine import verification
from flask_chunked.engine.records import ExpectedDigest, Upload
from flask_chunked.engine.states import Status
from flask_chunked.engine.verification import PATIENCE, PAUSE, STALE
from flask_chunked.exceptions import (
    ChunkedUploadError,
    CompletionInProgress,
    DatabaseUnavailable,
    UnknownUpload,
)
from tests.engine.fakes import Bench, RecordingPolicy, ScriptedReader

CONTENT = b"0123456789"
MD5 = ExpectedDigest("md5", hashlib.md5(CONTENT).hexdigest())
THREAD = "flask-chunked-verify"


class SlowPolicy(RecordingPolicy):
    """Calls ``meanwhile`` once during ``verify``."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def verify(self, upload: Upload) -> None:
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        super().verify(upload)


@pytest.fixture
def policy() -> SlowPolicy:
    return SlowPolicy()


@pytest.fixture
def bench(policy: SlowPolicy) -> Bench:
    return Bench(policy=policy)


@pytest.fixture
def upload(bench: Bench) -> Upload:
    return bench.filled(CONTENT)


def complete(bench: Bench, upload: Upload) -> bool:
    """True if this request has completed the upload."""
    return bench.engine.complete.request(bench.row(upload), None).completed_now


def crash(bench: Bench, upload: Upload) -> None:
    """Begin a verification whose process dies."""
    now = bench.clock()
    assert bench.repository.begin_completion(upload.id, now, now - STALE)


# -- one at a time ---------------------------------------------------------------------


@pytest.mark.parametrize("expected", [None, MD5], ids=["unchecked", "checked"])
def test_a_second_request_starts_no_second_verify(
    bench: Bench, policy: SlowPolicy, upload: Upload, expected: ExpectedDigest | None
) -> None:
    refusals: list[CompletionInProgress] = []

    def interfere() -> None:
        for seen in (upload, bench.row(upload)):
            with pytest.raises(CompletionInProgress) as caught:
                bench.engine.complete.request(seen, expected)
            refusals.append(caught.value)

    policy.meanwhile = interfere
    assert complete(bench, upload)
    assert policy.seen("verify") == [10]
    assert [(error.status, error.retry_after) for error in refusals] == [(503, 5)] * 2


def test_the_request_of_the_last_bytes_verifies(
    bench: Bench, policy: SlowPolicy
) -> None:
    upload = bench.create(10)
    begun = bench.engine.append.stream(
        upload, 0, 10, ScriptedReader(CONTENT), finishing=True
    )
    assert begun.verify_started_at == bench.row(upload).verify_started_at
    with pytest.raises(CompletionInProgress):
        bench.engine.complete.request(begun, None)
    assert bench.engine.complete.finish(begun).completed_now
    assert policy.seen("verify") == [10]
    assert bench.row(upload).verify_started_at is None


def test_a_verification_without_renewal_for_a_minute_is_stale(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    crash(bench, upload)
    bench.clock.advance(seconds=59.999)
    with pytest.raises(CompletionInProgress):
        complete(bench, upload)
    assert policy.seen("verify") == []
    bench.clock.advance(seconds=0.001)
    assert complete(bench, upload)
    assert policy.seen("verify") == [10]


def test_a_stale_verification_that_returns_late_changes_nothing(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    def interfere() -> None:
        bench.clock.advance(seconds=60)
        assert complete(bench, upload)

    policy.meanwhile = interfere
    assert not complete(bench, upload)
    assert policy.seen("verify") == [10, 10]
    assert len(policy.seen("deliver")) == 1


def test_a_late_refusal_of_a_stale_verification_changes_nothing(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    def interfere() -> None:
        bench.clock.advance(seconds=60)
        crash(bench, upload)
        policy.refusals["verify"] = ChunkedUploadError("infected")

    policy.meanwhile = interfere
    with pytest.raises(ChunkedUploadError, match="infected"):
        complete(bench, upload)
    row = bench.row(upload)
    assert (row.status, row.verify_started_at) == (Status.COMPLETING, bench.clock())


def test_a_request_that_finds_another_verifying_reports_it(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    """A third request refuses its completion, and a fourth begins it again."""

    def before(name: str) -> None:
        row = bench.row(upload)
        if name == "complete":
            bench.repository.refuse_completion(upload.id, row.fence)
        elif name == "get" and row.status is Status.UPLOADING:
            bench.repository.before = lambda _: None
            crash(bench, upload)

    bench.repository.before = before
    with pytest.raises(CompletionInProgress):
        complete(bench, upload)


def test_without_a_verify_no_request_waits(bench: Bench, upload: Upload) -> None:
    bench.policy.verifies = False
    begun = bench.repository.begin_completion(upload.id, bench.clock(), None)
    assert begun is not None
    assert begun.verify_started_at is None
    assert complete(bench, upload)


def test_a_partial_upload_is_completed_without_one(bench: Bench) -> None:
    row = bench.row(bench.partial(b"abc"))
    assert (row.status, row.verify_started_at) == (Status.COMPLETE, None)
    assert bench.policy.seen("verify") == []


# -- released by failures --------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit()], ids=repr)
def test_a_verify_that_breaks_lets_the_next_request_verify_at_once(
    bench: Bench, policy: SlowPolicy, upload: Upload, error: BaseException
) -> None:
    policy.refusals["verify"] = error
    with pytest.raises(type(error)):
        complete(bench, upload)
    row = bench.row(upload)
    assert (row.status, row.verify_started_at) == (Status.COMPLETING, None)
    policy.refusals.clear()
    assert complete(bench, upload)


def test_a_verify_that_refuses_lets_the_next_request_verify_at_once(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    policy.refusals["verify"] = ChunkedUploadError("infected")
    with pytest.raises(ChunkedUploadError, match="infected"):
        complete(bench, upload)
    row = bench.row(upload)
    assert (row.status, row.verify_started_at) == (Status.UPLOADING, None)
    policy.refusals.clear()
    assert complete(bench, upload)


@pytest.mark.parametrize("finishing", [False, True])
def test_a_commit_that_fails_lets_the_next_request_verify_at_once(
    bench: Bench, upload: Upload, finishing: bool
) -> None:
    if finishing:
        upload = bench.engine.append.stream(
            bench.create(10), 0, 10, ScriptedReader(CONTENT), finishing=True
        )
    bench.repository.failing = {"complete"}
    with pytest.raises(DatabaseUnavailable):
        if finishing:
            bench.engine.complete.finish(upload)
        else:
            complete(bench, upload)
    bench.repository.failing = set()
    assert bench.row(upload).verify_started_at is None
    assert complete(bench, upload)


def test_a_release_that_fails_costs_a_minute_and_hides_no_error(
    bench: Bench, policy: SlowPolicy, upload: Upload
) -> None:
    policy.refusals["verify"] = ZeroDivisionError()
    bench.repository.failing = {"note_verification"}
    with pytest.raises(ZeroDivisionError):
        complete(bench, upload)
    policy.refusals.clear()
    with pytest.raises(CompletionInProgress):
        complete(bench, upload)
    bench.clock.advance(seconds=60)
    assert complete(bench, upload)


# -- renewed while it is at work -------------------------------------------------------


@dataclass
class Renewals:
    """Waits for renewals by the thread."""

    bench: Bench
    noted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.bench.repository.before = self._before

    def _before(self, name: str) -> None:
        if name == "note_verification":
            self.noted.release()

    def let_pass(self, count: int = 3) -> None:
        """The first one may have been on its way; the last one is perhaps not there."""
        while self.noted.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self.noted.acquire(timeout=30)


@pytest.fixture
def renewals(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Renewals:
    monkeypatch.setattr(verification, "RENEWAL", 0.001)
    return Renewals(bench)


def test_a_renewed_verification_is_not_stale(
    bench: Bench, policy: SlowPolicy, upload: Upload, renewals: Renewals
) -> None:
    def meanwhile() -> None:
        for _ in range(3):
            bench.clock.advance(seconds=50)
            renewals.let_pass()
            assert bench.row(upload).verify_started_at == bench.clock()
            with pytest.raises(CompletionInProgress):
                complete(bench, upload)

    policy.meanwhile = meanwhile
    assert complete(bench, upload)
    assert policy.seen("verify") == [10]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=repr)
def test_nothing_is_renewed_after_the_verification(
    bench: Bench, policy: SlowPolicy, upload: Upload, error: BaseException | None
) -> None:
    working: list[threading.Thread] = []
    policy.meanwhile = lambda: working.extend(threads())
    if error is None:
        assert complete(bench, upload)
    else:
        policy.refusals["verify"] = error
        with pytest.raises(ZeroDivisionError):
            complete(bench, upload)
    (keeper,) = working
    # RENEWAL is 10 s, so the event ends the thread.
    keeper.join(timeout=5)
    assert not keeper.is_alive()
    assert keeper.daemon


def test_a_renewal_that_fails_is_logged_and_stops_nothing(
    bench: Bench,
    policy: SlowPolicy,
    upload: Upload,
    renewals: Renewals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench.repository.failing = {"note_verification"}
    policy.meanwhile = renewals.let_pass
    with caplog.at_level(logging.WARNING, logger="flask_chunked"):
        assert complete(bench, upload)
    messages = {record.getMessage() for record in caplog.records}
    assert messages == {f"cannot renew the verification of upload {upload.id}"}


def test_a_renewal_that_comes_late_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    now = bench.clock()
    begun = bench.repository.begin_completion(upload.id, now, now - STALE)
    assert begun is not None
    done = bench.engine.complete.finish(begun).upload
    bench.repository.note_verification(upload.id, begun.fence, now + timedelta(hours=1))
    assert bench.row(upload).verify_started_at is done.verify_started_at is None


# -- waiting for another one -----------------------------------------------------------


@dataclass
class FakeTime:
    """A clock that only ``sleep`` advances."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(verification, "time", time)
    return time


def at_look(bench: Bench, count: int, happens: Callable[[], object]) -> None:
    """Call ``happens`` at the count-th read of the row."""
    looks = 0

    def before(name: str) -> None:
        nonlocal looks
        looks += name == "get"
        if looks == count:
            bench.repository.before = lambda _: None
            happens()

    bench.repository.before = before


def test_a_request_waits_for_the_result_of_another_one(
    bench: Bench, upload: Upload, time: FakeTime
) -> None:
    crash(bench, upload)
    at_look(bench, 4, lambda: bench.engine.complete.finish(bench.row(upload)))
    answer = bench.engine.complete.wait(upload)
    assert not answer.completed_now
    assert answer.upload == bench.row(upload)
    assert time.slept == [PAUSE] * 3


def test_a_request_verifies_where_another_one_gave_up(
    bench: Bench, upload: Upload, time: FakeTime
) -> None:
    crash(bench, upload)
    fence = bench.row(upload).fence
    at_look(
        bench,
        2,
        lambda: bench.repository.note_verification(upload.id, fence, None),
    )
    assert bench.engine.complete.wait(upload).completed_now
    assert time.slept == [PAUSE]


def test_a_request_that_waited_long_enough_asks_for_a_retry(
    bench: Bench, upload: Upload, time: FakeTime
) -> None:
    crash(bench, upload)
    with pytest.raises(CompletionInProgress):
        bench.engine.complete.wait(upload)
    assert PATIENCE <= sum(time.slept) < PATIENCE + 2 * PAUSE
    assert bench.policy.seen("verify") == []


def test_an_upload_that_is_removed_during_the_wait_is_unknown(
    bench: Bench, upload: Upload, time: FakeTime
) -> None:
    crash(bench, upload)
    at_look(bench, 2, lambda: bench.engine.remove.terminate(upload))
    with pytest.raises(UnknownUpload):
        bench.engine.complete.wait(upload)
