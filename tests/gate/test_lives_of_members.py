"""How long partial and final uploads live: with each other, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.http import parse_date

from flask_chunked import check, delete_expired
from tests.apps import rows, stop_clock, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import Tus

HOUR, STEP = timedelta(hours=1), timedelta(minutes=20)


class Times:
    """An app whose uploads live for an hour, and its time."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.tus = Tus(app.test_client())
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        stop_clock(app, self.now)

    def advance(self, time: timedelta) -> None:
        self.now += time
        stop_clock(self.app, self.now)

    def would_expire(self) -> int:
        """Uploads that ``delete-expired`` would take."""
        with self.app.app_context():
            return len(delete_expired(dry_run=True))

    def expire(self) -> int:
        with self.app.app_context():
            return len(delete_expired())

    def heads(self, *urls: str) -> list[int]:
        return [self.tus.head(url).status_code for url in urls]


@pytest.fixture
def times(app_factory: AppFactory) -> Callable[..., Times]:
    def make(**config: object) -> Times:
        config = {"CHUNKED_UPLOAD_EXPIRATION_DELTA": HOUR, **config}
        return Times(app_factory(CHUNKED_UPLOAD_DURABLE=False, **config))

    return make


# -- complete partial uploads --------------------------------------------------------


def test_a_complete_partial_expires_by_inactivity(
    times: Callable[..., Times], tmp_path: Path
) -> None:
    at = times()
    url = at.tus.partial(b"abc")
    end = parse_date(at.tus.head(url).headers["Upload-Expires"])
    assert end == at.now + HOUR
    at.advance(HOUR - timedelta(seconds=1))
    assert (at.heads(url), at.would_expire()) == ([200], 0)
    at.advance(timedelta(seconds=1))
    assert at.heads(url) == [410]
    assert at.tus.client.get(url).status_code == 410
    assert at.tus.final(url).status_code == 410
    assert at.expire() == 1
    assert (rows(at.app), stored_files(tmp_path)) == ([], [])


def test_a_complete_partial_lives_no_longer_than_anything_unfinished(
    times: Callable[..., Times],
) -> None:
    at = times(CHUNKED_UPLOAD_MAX_LIFETIME=2 * HOUR)
    url = at.tus.partial(b"", 9)
    for offset in range(5):
        at.advance(STEP)
        assert at.tus.patch(url, offset, b"x").status_code == 204
    at.tus.patch(url, 5, b"xxxx")
    at.advance(STEP)
    assert at.heads(url) == [410]
    assert at.expire() == 1


def test_being_named_in_a_final_is_activity(times: Callable[..., Times]) -> None:
    at = times()
    url = at.tus.partial(b"abc")
    at.advance(2 * STEP)
    assert at.tus.final(url).status_code == 201
    at.advance(2 * STEP)
    assert at.heads(url) == [200]
    at.advance(STEP)
    assert at.heads(url) == [410]


def test_finished_files_stay_when_their_partials_expire(
    times: Callable[..., Times], tmp_path: Path
) -> None:
    at = times(CHUNKED_UPLOAD_DOWNLOADS=True, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=5)
    finals = []
    for number in range(3):
        parts = [at.tus.partial(b"%d%d" % (number, part)) for part in range(4)]
        finals.append(at.tus.final(*parts).headers["Location"])
    at.advance(400 * 24 * HOUR)
    assert at.expire() == 12
    assert [row.partial for row in rows(at.app)] == [False] * 3
    assert [at.tus.content(url) for url in finals] == [
        b"00010203",
        b"10111213",
        b"20212223",
    ]
    assert len(stored_files(tmp_path)) == 3
    with at.app.app_context():
        assert check() == []


# -- a final upload and its members --------------------------------------------------


def test_a_waiting_final_lives_while_its_members_are_active(
    times: Callable[..., Times],
) -> None:
    at = times(CHUNKED_UPLOAD_DOWNLOADS=True)
    a, b = at.tus.partial(b"", 6), at.tus.partial(b"", 6)
    final = at.tus.final(a, b).headers["Location"]
    for offset in range(5):
        at.advance(STEP)
        at.tus.patch(a, offset, b"x")
        at.tus.patch(b, offset, b"y")
        told = at.tus.head(final)
        assert told.status_code == 200
        assert parse_date(told.headers["Upload-Expires"]) == at.now + HOUR
        assert at.would_expire() == 0
    at.advance(STEP)
    assert at.tus.patch(a, 5, b"x").status_code == 204
    assert at.tus.patch(b, 5, b"y").status_code == 204
    assert at.tus.content(final) == b"xxxxxxyyyyyy"


def test_members_of_a_waiting_final_live_by_each_other(
    times: Callable[..., Times],
) -> None:
    at = times()
    complete, silent = at.tus.partial(b"abc"), at.tus.partial(b"d", 6)
    active = at.tus.partial(b"", 6)
    final = at.tus.final(complete, silent, active).headers["Location"]
    for offset in range(6):
        at.advance(2 * STEP)
        assert at.tus.patch(active, offset, b"x").status_code == 204
    assert at.heads(complete, silent, active, final) == [200] * 4
    assert at.would_expire() == 0
    assert at.tus.patch(silent, 1, b"efghi").status_code == 204
    assert at.tus.head(final).headers["Upload-Offset"] == "15"


def test_a_waiting_final_and_its_members_expire_together(
    times: Callable[..., Times], tmp_path: Path
) -> None:
    at = times()
    a, b = at.tus.partial(b"abc"), at.tus.partial(b"d", 6)
    final = at.tus.final(a, b).headers["Location"]
    at.advance(2 * STEP)
    at.tus.patch(b, 1, b"e")
    at.advance(2 * STEP)
    assert (at.heads(a, b, final), at.would_expire()) == ([200] * 3, 0)
    at.advance(STEP)
    assert at.heads(a, b, final) == [410] * 3
    assert at.tus.patch(b, 2, b"f").status_code == 410
    assert at.expire() == 3
    assert (rows(at.app), stored_files(tmp_path)) == ([], [])


def test_a_partial_of_no_waiting_final_does_not_live_by_the_others(
    times: Callable[..., Times],
) -> None:
    at = times()
    alone, active = at.tus.partial(b"abc"), at.tus.partial(b"", 6)
    done = at.tus.final(alone).headers["Location"]
    for offset in range(3):
        at.advance(STEP)
        at.tus.patch(active, offset, b"x")
    assert at.heads(alone, active, done) == [410, 200, 200]


def test_the_room_of_what_expired_is_given_back(times: Callable[..., Times]) -> None:
    at = times(CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    at.tus.partial(b"abc")
    at.tus.partial(b"abc")
    assert at.tus.post(Upload_Length="1").status_code == 429
    at.advance(HOUR)
    assert at.tus.post(Upload_Length="1").status_code == 201
    assert len(rows(at.app)) == 1
