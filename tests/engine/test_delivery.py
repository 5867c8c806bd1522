"""Deliveries: at least once, one at a time, with growing pauses after failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_chunked.engine.delivery import pause_after
from flask_chunked.engine.records import Upload
from tests.engine.fakes import Bench

CONTENT = b"0123456789"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    return bench.filled(CONTENT)


def failed(bench: Bench, upload: Upload) -> Upload:
    """The upload, complete, after one delivery that raised."""
    bench.policy.refusals["deliver"] = ZeroDivisionError()
    return bench.engine.complete.request(upload, None).upload


def outcomes(bench: Bench, older_than: timedelta = MINUTE, **now: bool) -> list[bool]:
    return [one.delivered for one in bench.engine.delivery.pending(older_than, **now)]


def test_a_delivery_that_raised_stays_pending(bench: Bench, upload: Upload) -> None:
    failed(bench, upload)
    row = bench.row(upload)
    assert (row.is_complete, row.delivered_at, row.attempts) == (True, None, 1)
    bench.policy.refusals.clear()
    assert outcomes(bench) == []
    bench.clock.advance(seconds=60)
    assert outcomes(bench) == [True]
    assert bench.row(upload).attempts == 2
    events = bench.policy.seen("deliver")
    assert events == [row.event_id, row.event_id]


@pytest.mark.parametrize("older_than", [timedelta(0), MINUTE])
def test_each_failure_doubles_the_pause_up_to_an_hour(
    bench: Bench, upload: Upload, older_than: timedelta
) -> None:
    failed(bench, upload)
    for attempts, minutes in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60], 1):
        assert bench.row(upload).attempts == attempts
        bench.clock.advance(seconds=minutes * 60 - 1)
        assert outcomes(bench, older_than) == [], attempts
        bench.clock.advance(seconds=1)
        assert outcomes(bench, older_than) == [False], attempts


def test_a_longer_age_than_the_pause_is_respected(bench: Bench, upload: Upload) -> None:
    failed(bench, upload)
    bench.clock.advance(minutes=9)
    assert outcomes(bench, 10 * MINUTE) == []
    bench.clock.advance(minutes=1)
    assert outcomes(bench, 10 * MINUTE) == [False]


def test_the_pause_ends_at_once_where_it_is_asked_for(
    bench: Bench, upload: Upload
) -> None:
    failed(bench, upload)
    bench.policy.refusals.clear()
    assert outcomes(bench, timedelta(0), retry_now=True) == [True]
    assert outcomes(bench, timedelta(0), retry_now=True) == []


def test_pauses_of_any_number_of_attempts_are_bounded() -> None:
    assert pause_after(0) == timedelta(0)
    assert pause_after(10**9) == 60 * MINUTE


def test_an_event_that_fails_blocks_no_other_one(bench: Bench) -> None:
    uploads = [bench.filled(CONTENT) for _ in range(3)]
    for upload in uploads:
        failed(bench, upload)
    poison = bench.row(uploads[1]).event_id
    bench.clock.advance(seconds=60)
    asked = bench.policy.deliver

    def deliver(upload: Upload) -> None:
        bench.policy.refusals.clear()
        if upload.event_id == poison:
            bench.policy.refusals["deliver"] = ValueError("poison")
        asked(upload)

    bench.policy.deliver = deliver  # type: ignore[method-assign]
    assert sorted(outcomes(bench)) == [False, True, True]
    assert outcomes(bench) == []


def test_a_failure_is_announced_with_the_number_of_attempts(
    bench: Bench, upload: Upload
) -> None:
    announced: list[int] = []
    plain = bench.policy.announce

    def announce(event: str, upload: Upload) -> None:
        if event == "delivery_failed":
            announced.append(upload.attempts)
        plain(event, upload)

    bench.policy.announce = announce  # type: ignore[method-assign]
    failed(bench, upload)
    bench.clock.advance(seconds=60)
    outcomes(bench)
    assert announced == [1, 2]
    bench.policy.refusals.clear()
    bench.clock.advance(seconds=120)
    assert outcomes(bench) == [True]
    assert announced == [1, 2]


def test_one_request_delivers_at_a_time(bench: Bench, upload: Upload) -> None:
    done = bench.engine.complete.request(upload, None).upload
    bench.repository.rows[upload.id] = replace(bench.row(upload), delivered_at=None)
    assert bench.engine.delivery.deliver(done) is False
    bench.clock.advance(seconds=61)
    assert bench.engine.delivery.deliver(done) is True
    assert bench.engine.delivery.deliver(done) is False


def test_a_process_that_dies_in_delivery_leaves_it_pending(
    bench: Bench, upload: Upload
) -> None:
    bench.policy.refusals["deliver"] = SystemExit()
    with pytest.raises(SystemExit):
        bench.engine.complete.request(upload, None)
    assert bench.row(upload).is_complete
    assert bench.row(upload).delivered_at is None


def test_an_event_without_a_deliver_hook_is_delivered_at_once(bench: Bench) -> None:
    bench.policy.delivers = False
    upload = bench.filled()
    done: Any = bench.engine.complete.request(upload, None).upload
    assert done.delivered_at == done.completed_at == bench.clock.now
    assert bench.policy.seen("deliver") == []
    assert outcomes(bench, timedelta(0)) == []
