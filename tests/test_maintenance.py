"""Expiry and delivery from Python, as a scheduler calls them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import (
    ChunkedUploadBlueprint,
    Status,
    Upload,
    delete_expired,
    delete_upload,
    deliver_pending,
    upload_expired,
    uploads,
)
from flask_chunked.exceptions import UnknownUpload
from flask_chunked.maintenance import expire_upload, expiring

from .aging import age_row, set_row
from .apps import registered, rows, stop_clock, stored_files
from .conftest import AppFactory
from .exchange import begin, detail, finish, id_of, put_form, put_raw, send

DAY = timedelta(days=1)


def expired(
    app: Flask, *, keep_records: bool = False, dry_run: bool = False
) -> list[Upload]:
    with app.app_context():
        return delete_expired(keep_records=keep_records, dry_run=dry_run)


def test_a_schedulers_bare_call_does_the_work(app: Flask) -> None:
    client = app.test_client()
    old = id_of(begin(client, b"abc", 6))
    age_row(app, old)
    done = id_of(begin(client, b"abc", 3))
    finish(client, f"/uploads/{done}", b"abc")
    set_row(app, done, delivered_at=None, delivery_started_at=None)
    with app.app_context():
        delete_expired()
        deliver_pending(older_than=timedelta(0))
    (left,) = rows(app)
    assert (left.id, left.delivered_at is None) == (done, False)


# -- what expires ----------------------------------------------------------------------


def test_expired_upload_goes_with_its_bytes(app: Flask, tmp_path: Path) -> None:
    url = begin(app.test_client(), b"abc", 6)
    age_row(app, id_of(url))
    (gone,) = expired(app)
    assert gone.id == id_of(url)
    assert rows(app) == []
    assert stored_files(tmp_path) == []
    assert app.test_client().get(url).status_code == 404


def test_kept_record_says_expired(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    age_row(app, id_of(url))
    assert len(expired(app, keep_records=True)) == 1
    (row,) = rows(app)
    assert (row.status, row.offset) == (Status.EXPIRED, 3)
    assert stored_files(tmp_path) == []
    for answer in (
        client.get(url),
        put_raw(client, b"def", start=3, url=url),
        finish(client, url, b"abc"),
    ):
        assert (answer.status_code, detail(answer)) == (410, "Upload has expired")
    assert client.head(url).status_code == 410
    assert expired(app, keep_records=True) == []
    assert client.delete(url).status_code == 204


def test_kept_record_goes_when_records_are_no_longer_kept(app: Flask) -> None:
    url = begin(app.test_client(), b"abc", 6)
    age_row(app, id_of(url))
    expired(app, keep_records=True)
    assert len(expired(app)) == 1
    assert rows(app) == []


def test_dry_run_removes_nothing(app: Flask, tmp_path: Path) -> None:
    url = begin(app.test_client(), b"abc", 6)
    age_row(app, id_of(url))
    before = rows(app)
    assert [one.id for one in expired(app, dry_run=True)] == [id_of(url)]
    assert rows(app) == before
    assert len(stored_files(tmp_path)) == 1


def test_finished_uploads_never_expire(app: Flask, tmp_path: Path) -> None:
    send(app.test_client(), b"abc")
    (row,) = rows(app)
    age_row(app, row.id, timedelta(days=3650))
    assert expired(app) == []
    with app.app_context():
        assert expire_upload(row.id) is None
    assert rows(app)[0].status is Status.COMPLETE
    assert len(stored_files(tmp_path)) == 1


def test_an_upload_stuck_in_completion_expires(app: Flask) -> None:
    url = begin(app.test_client(), b"abc", 3)
    set_row(app, id_of(url), status="completing")
    age_row(app, id_of(url))
    assert len(expired(app)) == 1
    assert rows(app) == []


def test_none_means_never(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_EXPIRATION_DELTA=None)
    url = begin(app.test_client(), b"abc", 6)
    age_row(app, id_of(url), timedelta(days=3650))
    assert expired(app) == []
    with app.app_context():
        assert expire_upload(id_of(url)) is None
    assert app.test_client().get(url).status_code == 200


def test_each_blueprint_has_its_own_time(app_factory: AppFactory) -> None:
    class Hasty(ChunkedUploadBlueprint):
        expiration_delta = timedelta(hours=1)

    app = app_factory()
    app.register_blueprint(Hasty("hasty", __name__), url_prefix="/hasty")
    client = app.test_client()
    slow, fast = begin(client, b"a", 2), begin(client, b"a", 2, url="/hasty/")
    age_row(app, id_of(slow), timedelta(hours=2))
    age_row(app, id_of(fast), timedelta(hours=2), "hasty")
    assert [one.id for one in expired(app)] == [id_of(fast)]
    age_row(app, id_of(slow), timedelta(days=2))
    with app.app_context():
        assert list(delete_expired(blueprint="hasty")) == []
        assert len(list(delete_expired(blueprint="uploads"))) == 1
        with pytest.raises(LookupError, match=r"'other'.*hasty, uploads"):
            list(delete_expired(blueprint="other"))


# -- how expiry slides -----------------------------------------------------------------

ACTS: dict[str, tuple[Callable[[FlaskClient, str], object], bool]] = {
    "raw-chunk": (lambda c, url: put_raw(c, b"def", start=3, total=9, url=url), True),
    "form-chunk": (lambda c, url: put_form(c, b"def", start=3, total=9, url=url), True),
    "get": (lambda c, url: c.get(url), False),
    "head": (lambda c, url: c.head(url), False),
    "list": (lambda c, url: c.get("/uploads/"), False),
    "repeat": (lambda c, url: put_raw(c, b"abc", total=9, url=url), False),
    "refused-chunk": (lambda c, u: put_raw(c, b"x", start=5, total=9, url=u), False),
    "refused-completion": (lambda c, url: finish(c, url, b"abc"), False),
}


@pytest.mark.parametrize(("act", "slides"), ACTS.values(), ids=ACTS)
def test_expiry_slides_with_committed_bytes_only(
    app: Flask, act: Callable[[FlaskClient, str], object], slides: bool
) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 9)
    begun = rows(app)[0].last_activity_at
    stop_clock(app, begun + timedelta(hours=12))
    act(client, url)
    moved = rows(app)[0].last_activity_at
    assert moved == (begun + timedelta(hours=12) if slides else begun)
    stop_clock(app, begun + timedelta(hours=25))
    assert len(expired(app)) == (0 if slides else 1)


@pytest.mark.parametrize(
    ("after", "status"), [(DAY - timedelta(seconds=1), 200), (DAY, 410)]
)
def test_time_is_over_at_the_moment_and_not_before(
    app: Flask, after: timedelta, status: int
) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    stop_clock(app, rows(app)[0].last_activity_at + after)
    assert client.get(url).status_code == status
    assert len(client.get("/uploads/").json or []) == 0  # nobody's are not listed
    assert len(expired(app, dry_run=True)) == (status == 410)


def test_upload_whose_time_is_over_takes_nothing_more(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    age_row(app, id_of(url))
    before = rows(app)
    assert put_raw(client, b"def", start=3, url=url).status_code == 410
    assert finish(client, url, b"abc").status_code == 410
    assert rows(app) == before


def test_a_lifetime_ends_for_an_active_upload(app_factory: AppFactory) -> None:
    app = app_factory(
        CHUNKED_UPLOAD_MAX_LIFETIME="2d", CHUNKED_UPLOAD_USER_RESTRICTED=False
    )
    client = app.test_client()
    old, young = begin(client, b"abc", 6), begin(client, b"abc", 6)
    done = begin(client, b"abc", 3)
    finish(client, done, b"abc")
    long_ago = datetime.now(timezone.utc) - timedelta(days=2, seconds=1)
    for url in (old, done):
        set_row(app, id_of(url), created_at=long_ago)
    listed = client.get("/uploads/").get_json()
    assert [one["id"] for one in listed] == [str(id_of(young))]
    assert put_raw(client, b"def", start=3, url=old).status_code == 410
    assert put_raw(client, b"def", start=3, url=young).status_code == 200
    assert [gone.id for gone in expired(app)] == [id_of(old)]
    assert {row.id for row in rows(app)} == {id_of(young), id_of(done)}


# -- races -----------------------------------------------------------------------------


def test_cleanup_leaves_an_upload_that_is_active_again(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    age_row(app, id_of(url))
    found = registered(app).engine.remove.expirable(expired_too=True)
    with app.app_context():
        ((upload, before),) = found
        set_row(app, upload.id, last_activity_at=datetime.now(timezone.utc))
        assert (
            registered(app).engine.remove.expire(upload, before, keep_record=False)
            is None
        )
    assert put_raw(client, b"def", start=3, url=url).status_code == 200
    assert finish(client, url, b"abcdef").status_code == 200


def test_cleanup_in_the_middle_of_a_loop_sees_each_upload_as_it_is(
    app: Flask,
) -> None:
    client = app.test_client()
    urls = sorted((begin(client, b"abc", 6) for _ in range(2)), key=id_of)
    for url in urls:
        age_row(app, id_of(url))
    with app.app_context():
        cleaning = expiring()
        assert next(cleaning).id == id_of(urls[0])
        set_row(app, id_of(urls[1]), last_activity_at=datetime.now(timezone.utc))
        assert list(cleaning) == []
    assert [row.id for row in rows(app)] == [id_of(urls[1])]


def test_two_cleanups_share_the_work(app: Flask) -> None:
    heard: list[object] = []

    def hear(sender: Flask, upload: Upload) -> None:
        heard.append(upload.id)

    client = app.test_client()
    for _ in range(3):
        age_row(app, id_of(begin(client, b"abc", 6)))
    with app.app_context(), upload_expired.connected_to(hear, sender=app):
        first, second = expiring(), expiring()
        one = next(first)
        others = list(second)
        assert list(first) == []
    assert len({one.id, *(other.id for other in others)}) == 3
    assert len(heard) == len(set(heard)) == 3


def test_cleanup_in_a_writers_last_moment_leaves_no_byte(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    """It comes between the bytes and their commit, and waits for the lock in vain."""

    class Impatient(ChunkedUploadBlueprint):
        storage_options = {"lock_timeout": 0.05}

    app = app_factory(blueprint_class=Impatient)
    client = app.test_client()
    url = begin(client, b"abc", 6)
    repository = registered(app).repository
    advance = repository.advance

    def late(step: object) -> bool:
        age_row(app, id_of(url))
        assert len(expired(app)) == 1
        return advance(step)  # type: ignore[arg-type]

    repository.advance = late  # type: ignore[method-assign]
    answer = put_raw(client, b"def", start=3, url=url)
    assert answer.status_code == 404
    assert rows(app) == []
    assert stored_files(tmp_path) == []


# -- looking and removing --------------------------------------------------------------


def test_uploads_lists_all_or_some(app: Flask) -> None:
    app.register_blueprint(
        ChunkedUploadBlueprint("songs", __name__), url_prefix="/songs"
    )
    client = app.test_client()
    begin(client, b"abc", 6)
    send(client, b"abc", url="/songs/")
    with app.app_context():
        assert len(list(uploads())) == 2
        assert [one.blueprint for one in uploads(blueprint="songs")] == ["songs"]
        (done,) = uploads(status=Status.COMPLETE)
        assert done.blueprint == "songs"


def test_more_uploads_than_one_batch_are_listed(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        for _ in range(401):
            here.db.session.add(here.model(blueprint="uploads"))
        here.db.session.commit()
        ids = [one.id for one in uploads()]
    assert len(ids) == len(set(ids)) == 401


def test_delete_upload_removes_whatever_state(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    begin(client, b"abc", 6)
    send(client, b"abc")
    with app.app_context():
        for upload in list(uploads()):
            assert delete_upload(upload.id).id == upload.id
        with pytest.raises(UnknownUpload):
            delete_upload(uuid4())
    assert rows(app) == []
    assert stored_files(tmp_path) == []
