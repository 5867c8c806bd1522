"""Expiry, delivery and ``check``, as a scheduler or an administrator calls them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    Status,
    Upload,
    check,
    create_tables,
    delete_expired,
    delete_upload,
    deliver_pending,
    upload_expired,
    uploads,
)
from flask_chunked.exceptions import UnknownUpload
from flask_chunked.maintenance import (
    ORPHAN_AGE,
    Finding,
    expire_upload,
    expiring,
)
from flask_chunked.storage.base import Blob

from .aging import age_file, age_row, set_row
from .apps import blueprint_of, registered, rows, stop_clock, stored_files
from .conftest import AppFactory
from .exchange import begin, detail, finish, id_of, put_form, put_raw, send

DAY = timedelta(days=1)


def expired(
    app: Flask, *, keep_records: bool = False, dry_run: bool = False
) -> list[Upload]:
    with app.app_context():
        return delete_expired(keep_records=keep_records, dry_run=dry_run)


def test_a_call_without_arguments_does_the_work(app: Flask) -> None:
    client = app.test_client()
    old = id_of(begin(client, b"abc", 6))
    age_row(app, old)
    done = id_of(begin(client, b"abc", 3))
    finish(client, f"/uploads/{done}", b"abc")
    set_row(app, done, delivered_at=None, delivery_started_at=None)
    with app.app_context():
        delete_expired()
        deliver_pending(older_than=timedelta(0), retry_now=True)
    (left,) = rows(app)
    assert (left.id, left.delivered_at is None) == (done, False)


# -- what expires ----------------------------------------------------------------------


def test_expired_upload_is_removed_with_its_bytes(app: Flask, tmp_path: Path) -> None:
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
    assert len(client.get("/uploads/").json or []) == 0  # not listed
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
        # One by one, as with questions; without, up to 100 in one transaction.
        cleaning = expiring(approve=lambda upload: True)
        assert next(cleaning).upload_id == id_of(urls[0])
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
        first, second = expiring(approve=lambda upload: True), expiring()
        one = next(first)
        others = list(second)
        assert list(first) == []
    assert len({one.upload_id, *(other.upload_id for other in others)}) == 3
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

    def late(commit: object) -> bool:
        age_row(app, id_of(url))
        assert len(expired(app)) == 1
        return advance(commit)  # type: ignore[arg-type]

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
            id_or_text = upload.id if upload.offset else str(upload.id)
            assert delete_upload(id_or_text).id == upload.id
        with pytest.raises(UnknownUpload):
            delete_upload(uuid4())
    assert rows(app) == []
    assert stored_files(tmp_path) == []


# -- check: what crashes leave is found, and repaired without loss ---------------------

YOUNG = ORPHAN_AGE - timedelta(seconds=30)
OLD = ORPHAN_AGE + timedelta(seconds=30)


def checked(app: Flask, *, repair: bool = False) -> list[Finding]:
    with app.app_context():
        return list(check(repair=repair))


def kinds(findings: list[Finding]) -> list[tuple[str, int, bool]]:
    return [(one.kind, one.size, one.repaired) for one in findings]


def begun(app: Flask, data: bytes = b"abc", total: int = 6) -> Upload:
    """An unfinished upload's row."""
    upload_id = id_of(begin(app.test_client(), data, total))
    (row,) = (row for row in rows(app) if row.id == upload_id)
    return row


def file_of(tmp_path: Path, upload: Upload) -> Path:
    (path,) = (tmp_path / "instance").rglob(f"{upload.id}.*")
    return path


# -- each kind of damage: make it, returns what must be there after the repair ---------

Damage = Callable[[Flask, Path], None]


def forget(app: Flask, upload: Upload) -> None:
    """Remove the row, and no byte."""
    here = registered(app)
    here.repository.terminate(upload.id, here.engine.clock())
    here.repository.forget_removals([upload.id])


def orphan(app: Flask, tmp_path: Path) -> None:
    """A file whose row is gone."""
    upload = begun(app)
    with app.app_context():
        forget(app, upload)
    age_file(file_of(tmp_path, upload))


def finished_orphan(app: Flask, tmp_path: Path) -> None:
    send(app.test_client(), b"abc")
    (upload,) = rows(app)
    with app.app_context():
        forget(app, upload)
    age_file(file_of(tmp_path, upload))


def missing(app: Flask, tmp_path: Path) -> None:
    """An unfinished upload whose file is gone."""
    file_of(tmp_path, begun(app)).unlink()


def shortened(app: Flask, tmp_path: Path) -> None:
    os.truncate(file_of(tmp_path, begun(app)), 1)


def tail(app: Flask, tmp_path: Path) -> None:
    """Bytes beyond the offset, of a writer that died long ago."""
    upload = begun(app)
    with file_of(tmp_path, upload).open("ab") as file:
        file.write(b"dead")
    age_row(app, upload.id, OLD)


def stage(app: Flask, tmp_path: Path) -> None:
    """A chunk in a form whose request died."""
    with app.app_context():
        left = registered(app).storage.stage()
        left.write(b"staged")
    (path,) = stored_files(tmp_path)
    kept = path.read_bytes()
    left.close()
    path.write_bytes(kept)
    age_file(path)


def half_removed(app: Flask, tmp_path: Path) -> None:
    """A removal that died between the row and the bytes."""
    upload, here = begun(app), registered(app)
    with app.app_context():
        here.repository.terminate(upload.id, here.engine.clock())
    age_file(file_of(tmp_path, upload))


def half_removed_without_bytes(app: Flask, tmp_path: Path) -> None:
    upload, here = begun(app), registered(app)
    file_of(tmp_path, upload).unlink()
    with app.app_context():
        here.repository.terminate(upload.id, here.engine.clock())


def leftover(app: Flask, tmp_path: Path) -> None:
    """The bytes of an upload whose record says expired."""
    set_row(app, begun(app).id, status="expired")


#: name -> (damage, kind, bytes, rows left after the repair)
DAMAGES: dict[str, tuple[Damage, str, int, int]] = {
    "orphan": (orphan, "orphan", 3, 0),
    "finished-orphan": (finished_orphan, "orphan", 3, 0),
    "missing": (missing, "missing", 3, 0),
    "shortened": (shortened, "missing", 2, 0),
    "tail": (tail, "tail", 4, 1),
    "stage": (stage, "stage", 6, 0),
    "half-removed": (half_removed, "half-removed", 3, 0),
    "half-removed-empty": (half_removed_without_bytes, "half-removed", 3, 0),
    "leftover": (leftover, "leftover", 3, 1),
}


@pytest.mark.parametrize(
    ("damage", "kind", "size", "left"), DAMAGES.values(), ids=DAMAGES
)
def test_damage_is_found_reported_and_repaired(
    app: Flask, tmp_path: Path, damage: Damage, kind: str, size: int, left: int
) -> None:
    damage(app, tmp_path)
    before, files = rows(app), stored_files(tmp_path)
    sizes = [path.stat().st_size for path in files]
    assert kinds(checked(app)) == [(kind, size, False)]
    assert rows(app) == before
    assert [path.stat().st_size for path in stored_files(tmp_path)] == sizes
    assert kinds(checked(app, repair=True)) == [(kind, size, True)]
    assert len(rows(app)) == left
    assert checked(app) == []
    if kind != "tail":
        assert stored_files(tmp_path) == []


@pytest.mark.parametrize("damage", [tail], ids=["tail"])
def test_upload_goes_on_after_its_repair(
    app: Flask, tmp_path: Path, damage: Damage
) -> None:
    damage(app, tmp_path)
    checked(app, repair=True)
    (row,) = rows(app)
    assert file_of(tmp_path, row).read_bytes() == b"abc"
    client, url = app.test_client(), f"/uploads/{row.id}"
    assert put_raw(client, b"def", start=3, url=url).status_code == 200
    assert finish(client, url, b"abcdef").status_code == 200


def test_second_name_of_a_finished_file_goes_and_the_file_stays(
    app: Flask, tmp_path: Path
) -> None:
    """Of a writer that died between its one commit and the end of the first name."""
    send(app.test_client(), b"abc")
    (row,) = rows(app)
    finished = file_of(tmp_path, row)
    finished.with_suffix(".part").hardlink_to(finished)
    age_file(finished)
    assert kinds(checked(app)) == [("orphan", 3, False)]
    assert kinds(checked(app, repair=True)) == [("orphan", 3, True)]
    assert file_of(tmp_path, row) == finished
    assert finished.read_bytes() == b"abc"
    assert checked(app) == []


def test_both_names_of_an_unfinished_upload_are_its_own(
    app: Flask, tmp_path: Path
) -> None:
    """Of one that died before its commit: nothing counts, and the next one goes on."""
    client = app.test_client()
    tus = {"Tus-Resumable": "1.0.0"}
    made = client.post("/uploads/", headers={**tus, "Upload-Length": "3"})
    (row,) = rows(app)
    with app.app_context():
        storage = registered(app).storage
        assert row.blob is not None
        with storage.put(row.blob, b"xyz", finished=True):
            pass
    finished = file_of(tmp_path, row)
    finished.with_suffix(".part").hardlink_to(finished)
    age_file(finished)
    age_row(app, row.id, OLD)
    assert kinds(checked(app, repair=True)) == [("tail", 3, True)]
    answer = client.patch(
        made.headers["Location"],
        data=b"abc",
        headers={**tus, "Upload-Offset": "0"},
        content_type="application/offset+octet-stream",
    )
    assert answer.status_code == 204
    assert rows(app)[0].is_complete
    assert [path.read_bytes() for path in stored_files(tmp_path)] == [b"abc"]


# -- what is no damage -----------------------------------------------------------------


def test_whole_app_in_order_has_no_findings(app: Flask, tmp_path: Path) -> None:
    begun(app)
    begin(app.test_client(), b"", 0)
    put_raw(app.test_client(), b"", total=0)
    send(app.test_client(), b"abc")
    send(app.test_client(), b"")
    for path in stored_files(tmp_path):
        age_file(path)
    assert checked(app, repair=True) == []
    assert len(rows(app)) == 5


def test_missing_bytes_of_a_complete_upload_are_only_reported(
    app: Flask, tmp_path: Path
) -> None:
    send(app.test_client(), b"abc")
    (row,) = rows(app)
    file_of(tmp_path, row).unlink()
    for repair in (False, True):
        assert kinds(checked(app, repair=repair)) == [("missing", 3, False)]
    assert rows(app) == [row]


def test_file_that_was_moved_away_is_not_missed(app: Flask, tmp_path: Path) -> None:
    send(app.test_client(), b"abc")
    with app.app_context():
        blueprint_of(app).move(rows(app)[0], tmp_path / "taken")
    assert checked(app, repair=True) == []


def test_tail_of_a_complete_upload_is_truncated(app: Flask, tmp_path: Path) -> None:
    send(app.test_client(), b"abc")
    (row,) = rows(app)
    with file_of(tmp_path, row).open("ab") as file:
        file.write(b"dead")
    assert kinds(checked(app, repair=True)) == [("tail", 4, True)]
    assert file_of(tmp_path, row).read_bytes() == b"abc"


@pytest.mark.parametrize("length", [3, 6], ids=["whole", "first bytes"])
def test_bytes_whose_row_is_inserted_later_are_kept(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Of a request that was frozen between the two."""
    repository = registered(app).repository
    create = repository.create
    found: list[Finding] = []

    def after_a_long_sleep(*draft: Any) -> Upload:
        (path,) = stored_files(tmp_path)
        age_file(path)
        found.extend(checked(app, repair=True))
        return create(*draft)

    monkeypatch.setattr(repository, "create", after_a_long_sleep)
    answer = app.test_client().post(
        "/uploads/",
        data=b"abc",
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(length)},
        content_type="application/offset+octet-stream",
    )
    assert answer.status_code == 201
    assert kinds(found) == [("orphan", 3, False)]
    (path,) = stored_files(tmp_path)
    assert path.read_bytes() == b"abc"
    assert checked(app) == []


def test_bytes_whose_row_is_inserted_during_the_check_are_no_orphan(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begun(app)
    age_file(file_of(tmp_path, upload))
    repository = registered(app).repository
    look = repository.by_keys

    def not_yet(keys: list[str]) -> dict[str, Upload]:
        monkeypatch.setattr(repository, "by_keys", look)
        return {}

    monkeypatch.setattr(repository, "by_keys", not_yet)
    assert checked(app, repair=True) == []
    assert file_of(tmp_path, upload).read_bytes() == b"abc"


@pytest.mark.parametrize("age", [timedelta(0), YOUNG], ids=["now", "young"])
def test_recent_remains_may_belong_to_a_running_request(
    app: Flask, tmp_path: Path, age: timedelta
) -> None:
    upload = begun(app)
    path = file_of(tmp_path, upload)
    with path.open("ab") as file:
        file.write(b"coming")
    age_row(app, upload.id, age)
    stray = path.with_name(f"{uuid4()}.part")
    stray.write_bytes(b"coming")
    age_file(stray, age)
    assert checked(app, repair=True) == []
    assert path.read_bytes() == b"abccoming"
    assert stray.exists()


def test_tail_of_a_running_writer_is_not_truncated(app: Flask, tmp_path: Path) -> None:
    """Its last commit is old, but the claim under which the tail was written is new."""
    upload = begun(app)
    here = registered(app)
    with app.app_context():
        claimed = here.repository.claim(upload.id, 3)
        assert claimed is not None
        assert claimed.blob is not None
        with here.storage.appender(claimed.blob) as appender:
            with appender.exclusive():
                appender.write(b"def")
            assert checked(app, repair=True) == []
            with appender.exclusive():
                assert here.repository.holds(claimed.id, claimed.fence, 3)
                appender.flush()
    assert file_of(tmp_path, upload).read_bytes() == b"abcdef"


def test_writer_whose_tail_was_truncated_is_superseded_and_keeps_what_was_acknowledged(
    app: Flask, tmp_path: Path
) -> None:
    upload = begun(app)
    here = registered(app)
    with app.app_context():
        claimed = here.repository.claim(upload.id, 3)
        assert claimed is not None
        assert claimed.blob is not None
        with here.storage.appender(claimed.blob) as appender:
            with appender.exclusive():
                appender.write(b"def")
            age_row(app, upload.id, OLD)
            assert kinds(checked(app, repair=True)) == [("tail", 3, True)]
        assert not here.repository.holds(claimed.id, claimed.fence, 3)
    assert file_of(tmp_path, upload).read_bytes() == b"abc"


def test_files_of_others_are_kept(app: Flask, tmp_path: Path) -> None:
    begun(app)
    root = tmp_path / "instance" / "chunked_uploads"
    strangers = [root / "README", root / "2020" / "01" / "notes.txt"]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        age_file(path)
    assert checked(app, repair=True) == []
    assert all(path.exists() for path in strangers)


def test_files_of_other_tables_on_the_same_storage_are_no_orphans(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    db = SQLAlchemy()

    class Song(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    app = app_factory(db=db)
    app.register_blueprint(
        ChunkedUploadBlueprint("songs", __name__, model=Song), url_prefix="/songs"
    )
    create_tables(app)
    begin(app.test_client(), b"abc", 6)
    begin(app.test_client(), b"abc", 6, url="/songs/")
    for path in stored_files(tmp_path):
        age_file(path)
    assert checked(app, repair=True) == []
    with app.app_context():
        assert list(check(repair=True, blueprint="songs")) == []
    assert len(stored_files(tmp_path)) == 2


# -- races -----------------------------------------------------------------------------


def test_upload_that_is_removed_during_the_check_is_no_finding(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begun(app)
    here = registered(app)
    measure = here.storage.measure

    def late(blob: Blob) -> int | None:
        with app.app_context():
            if here.repository.get(upload.id) is not None:
                here.engine.remove.terminate(upload)
        return measure(blob)

    monkeypatch.setattr(here.storage, "measure", late)
    assert checked(app, repair=True) == []


def test_upload_that_is_finished_and_moved_while_it_is_checked_keeps_its_record(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(app.test_client(), b"abc", 3)
    here = registered(app)
    measure = here.storage.measure

    def late(blob: Blob) -> int | None:
        if not (tmp_path / "taken").exists():
            assert finish(app.test_client(), url, b"abc").status_code == 200
            with app.app_context():
                blueprint_of(app).move(rows(app)[0], tmp_path / "taken")
        return measure(blob)

    monkeypatch.setattr(here.storage, "measure", late)
    assert checked(app, repair=True) == []
    assert rows(app)[0].status is Status.COMPLETE


def test_termination_by_a_concurrent_process_is_no_error(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begun(app)
    file_of(tmp_path, upload).unlink()
    here = registered(app)
    terminate = here.engine.remove.terminate

    def second(row: Upload) -> None:
        terminate(row)
        terminate(row)

    monkeypatch.setattr(here.engine.remove, "terminate", second)
    assert kinds(checked(app, repair=True)) == [("missing", 3, True)]
    assert rows(app) == []
