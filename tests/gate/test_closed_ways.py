"""Ways round the limits that were tried on finals and verifications, and are closed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_chunked import ChunkedUploadBlueprint, maintenance
from flask_chunked.exceptions import StorageError
from tests.apps import registered, rows, stop_clock
from tests.conftest import AppFactory
from tests.dialects.tus import Tus


def deferred(tus: Tus) -> str | None:
    """A partial upload without a length; ``None``: refused."""
    answer = tus.post(Upload_Defer_Length="1", Upload_Concat="partial")
    return answer.headers.get("Location")


def test_members_of_unknown_length_are_not_taken_out_of_the_count_again_and_again(
    app_factory: AppFactory,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=100, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=200)
    tus = Tus(app.test_client())
    first = deferred(tus)
    assert first is not None
    members, older = [first], None
    for _ in range(6):
        answer = tus.final(*members)
        if answer.status_code != 201:
            break
        if older is not None:
            tus.delete(older)
        older = answer.headers["Location"]
        more = deferred(tus)
        if more is None:
            break
        tus.patch(more, 0, b"y" * 100)
        members.append(more)
    assert sum(row.offset for row in rows(app)) <= 200


@pytest.mark.parametrize("limit", [200, 150])
def test_a_final_that_is_too_large_already_is_refused_though_a_length_is_missing(
    app_factory: AppFactory, limit: int
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=limit).test_client())
    a, b = tus.partial(b"a" * 100), tus.partial(b"b" * 100)
    unknown = deferred(tus)
    assert unknown is not None
    wanted = 201 if limit == 200 else 413
    assert tus.final(a, b, unknown).status_code == wanted


@pytest.mark.parametrize("way", ["delete-expired", "room for another"])
def test_an_upload_that_is_being_verified_does_not_expire(
    app_factory: AppFactory, way: str
) -> None:
    now = datetime.now(timezone.utc)

    class Slow(ChunkedUploadBlueprint):
        def verify(self, upload: Any) -> None:
            # Older than the limit, and verified for half a minute.
            stop_clock(app, now + timedelta(minutes=60, seconds=30))
            if way == "delete-expired":
                assert maintenance.delete_expired() == []
            else:
                other = Tus(app.test_client()).post(Upload_Length="3")
                assert other.status_code == 429

    app = app_factory(
        blueprint_class=Slow,
        CHUNKED_UPLOAD_MAX_LIFETIME=timedelta(hours=1),
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1,
    )
    tus = Tus(app.test_client())
    stop_clock(app, now)
    url = tus.create(3)
    stop_clock(app, now + timedelta(minutes=60, seconds=-1))
    assert tus.patch(url, 0, b"abc").status_code == 204
    assert [row.is_complete for row in rows(app)] == [True]


def test_a_member_that_cannot_be_removed_does_not_hide_its_final(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(CHUNKED_UPLOAD_KEEP_PARTIALS=False)
    tus = Tus(app.test_client())
    a = tus.partial(b"abc")

    def fail(blob: object) -> None:
        raise StorageError()

    monkeypatch.setattr(registered(app).storage, "delete", fail)
    answer = tus.final(a)
    assert answer.status_code == 201
    assert tus.head(answer.headers["Location"]).headers["Upload-Offset"] == "3"
