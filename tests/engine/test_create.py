"""Creation where a quota holds: room, none, and what only waits to expire."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flask_chunked.engine.records import Quota, Upload
from flask_chunked.exceptions import TooManyUploads
from tests.engine.fakes import Bench

ONE = Quota(max_uploads=1, max_bytes=None, reserve=0)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.policy.limits = ONE
    return bench


def test_what_a_quota_counts_is_kept_with_the_upload(bench: Bench) -> None:
    assert bench.create(10).reserved == 10
    bench.policy.limits = None
    assert bench.create(10).reserved is None


@pytest.mark.parametrize("expiration", [timedelta(days=1), None])
def test_a_full_quota_refuses_before_the_body_and_at_creation(
    expiration: timedelta | None,
) -> None:
    bench = Bench(expiration=expiration)
    bench.policy.limits = ONE
    upload = bench.create(10)
    with pytest.raises(TooManyUploads):
        bench.engine.create.require_room(upload.user, 10)
    with pytest.raises(TooManyUploads):
        bench.create(10)
    assert list(bench.repository.rows) == [upload.id]
    bench.engine.create.require_room("somebody else", 10)
    bench.policy.limits = None
    bench.engine.create.require_room(upload.user, 10)


@pytest.mark.parametrize("ask", ["require_room", "create"])
def test_what_only_waits_to_expire_makes_room(bench: Bench, ask: str) -> None:
    old = bench.filled(b"abc")
    bench.clock.advance(days=2)
    made: Upload | None = None
    if ask == "create":
        made = bench.create(10)
    else:
        bench.engine.create.require_room(old.user, 10)
    assert set(bench.repository.rows) == ({made.id} if made else set())
    assert list(bench.storage.stored()) == []
    assert bench.policy.seen("expired") == [3]


def test_an_upload_that_a_rival_completes_is_not_abandoned(bench: Bench) -> None:
    upload = bench.filled()

    def rival(name: str) -> None:
        if name == "begin_termination":
            bench.repository.before = lambda name: None
            bench.engine.complete.request(upload, None)

    bench.repository.before = rival
    bench.engine.remove.discard(upload)
    assert bench.row(upload).is_complete
    assert bench.stored(upload) == b"0123456789"
