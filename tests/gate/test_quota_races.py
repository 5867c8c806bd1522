"""Quotas where requests meet: each upload is counted once, whoever is faster."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from flask_chunked import ChunkedUploadBlueprint, check
from tests.apps import registered
from tests.dialects.tus import Tus
from tests.exchange import id_of, post_whole

from . import rivals
from .rivals import Rival, after, before
from .sums import Sums, Watch

NewApp = Callable[..., Flask]
ROOMY = {
    "CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 100,
    "CHUNKED_UPLOAD_MAX_TOTAL_BYTES": 10_000,
    "CHUNKED_UPLOAD_MAX_STORED_BYTES": 10_000,
    "CHUNKED_UPLOAD_MAX_BYTES": 1_000,
}
#: All see the uploads of all.
SHARED = {"CHUNKED_UPLOAD_USER_RESTRICTED": False}


class Named(ChunkedUploadBlueprint):
    """The owner is whom a header names."""

    def get_user_id(self) -> Any:
        return request.headers.get("X-User")


class As(Tus):
    """A client that says whose it is."""

    def __init__(self, app: Flask, user: str) -> None:
        super().__init__(app.test_client())
        self.client.environ_base["HTTP_X_USER"] = user


def assert_exact(app: Flask) -> None:
    snapshot = Watch(app).look()
    assert (snapshot.differences(), snapshot.strays) == ([], 0)
    with app.app_context():
        assert registered(app).repository.quota_mismatches() == []


def deferred(tus: Tus) -> str:
    answer = tus.post(b"abc", Upload_Defer_Length="1", Upload_Concat="partial")
    return answer.headers["Location"]


# -- a member while its final upload goes ----------------------------------------------


def delete(tus: Tus, partial: str) -> int:
    return tus.delete(partial).status_code


def declare(tus: Tus, partial: str) -> int:
    return tus.patch(partial, 3, Upload_Length="50").status_code


def name_again(tus: Tus, partial: str) -> int:
    return tus.final(partial).status_code


@pytest.mark.parametrize("act", [delete, declare, name_again])
def test_member_is_counted_once_while_its_final_upload_goes(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, act: Callable[[Tus, str], int]
) -> None:
    app = raced(**ROOMY)
    tus = Tus(app.test_client())
    partial = deferred(tus)
    other = tus.partial(b"x", 2)
    final = tus.final(partial, other).headers["Location"]
    assert_exact(app)
    rival = Rival(lambda: Tus(app.test_client()).delete(final).status_code)
    quotas = registered(app).quotas
    before(monkeypatch, quotas, "_add", rival.meet)
    assert act(tus, partial) in (201, 204)
    assert rival.end() == 204
    assert_exact(app)


def test_member_that_goes_with_its_complete_final_upload_counts_no_more(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = raced(**ROOMY)
    tus = Tus(app.test_client())
    partial = tus.partial(b"abc")
    final = tus.final(partial).headers["Location"]
    repository = registered(app).repository
    # The final upload is on its way out, and its row is still there.
    before(monkeypatch, repository, "remove", lambda: tus.delete(partial))
    assert Tus(app.test_client()).delete(final).status_code == 204
    assert_exact(app)
    assert Watch(app).look().told[""] == Sums()


def test_names_go_with_the_last_of_a_concatenation(raced: NewApp) -> None:
    app = raced(**ROOMY)
    tus = Tus(app.test_client())
    for first in ("member", "final"):
        gone, kept = tus.partial(b"abc"), tus.partial(b"de")
        final = tus.final(gone, kept).headers["Location"]
        for url in (gone, final, kept) if first == "member" else (final, gone, kept):
            assert tus.delete(url).status_code == 204
            assert_exact(app)
        assert Watch(app).look().told[""] == Sums()


def test_final_upload_that_counts_nothing_takes_its_members_out_of_the_count(
    raced: NewApp,
) -> None:
    class Tiered(Named):
        def get_max_open_uploads(self) -> int | None:
            return None if self.get_user_id() == "root" else 10

    app = raced(blueprint_class=Tiered, **SHARED)
    ann, root = As(app, "ann"), As(app, "root")
    partial = ann.partial(b"abc", 4)
    final = root.final(partial).headers["Location"]
    assert Watch(app).look().told["ann"] == Sums(0, 0, None)
    assert_exact(app)
    assert root.delete(final).status_code == 204
    assert Watch(app).look().told["ann"] == Sums(1, 4, None)
    assert_exact(app)


# -- several owners --------------------------------------------------------------------


@pytest.mark.parametrize("act", ["name", "give up"])
def test_owners_of_members_never_wait_for_one_another_in_a_ring(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    app = raced(blueprint_class=Named, **ROOMY, **SHARED)
    ann, ben = As(app, "ann"), As(app, "ben")
    pairs = [[one.partial(b"x", 2) for one in (ann, ben)] for _ in range(2)]
    finals = []
    if act == "give up":
        both = zip((ann, ben), pairs, strict=True)
        finals = [one.final(*pair).headers["Location"] for one, pair in both]
    line = threading.Barrier(2)
    quotas: Any = registered(app).quotas
    change = quotas._add
    seen: set[int] = set()

    def change_and_wait(*arguments: Any) -> Any:
        changed = change(*arguments)
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            with suppress(threading.BrokenBarrierError):
                line.wait(rivals.MOMENT)
        return changed

    monkeypatch.setattr(quotas, "_add", change_and_wait)

    def go(one: As, number: int) -> int:
        if act == "name":
            return one.final(*pairs[number]).status_code
        return one.delete(finals[number]).status_code

    racers = [Rival(lambda: go(ann, 0)), Rival(lambda: go(ben, 1))]
    for racer in racers:
        racer.start()
    assert {racer.end() for racer in racers} == {201 if act == "name" else 204}
    assert_exact(app)


# -- files -----------------------------------------------------------------------------


def test_file_that_is_moved_while_it_is_removed_is_given_back_once(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = raced(**ROOMY)
    client = app.test_client()
    kept = post_whole(client, b"kept")
    gone = post_whole(client, b"gone").json
    assert kept.status_code == 200 and gone is not None
    repository = registered(app).repository
    upload_id = id_of(gone["url"])
    with app.app_context():
        upload = repository.get(upload_id)
        before(
            monkeypatch,
            repository,
            "forget_file",
            lambda: repository.begin_termination(upload_id),
        )
        app.blueprints["uploads"].move(upload, tmp_path / "moved")  # type: ignore[attr-defined]
    assert Watch(app).look().told[""] == Sums(0, 0, 4)
    assert_exact(app)


def test_file_that_goes_while_its_owner_is_counted_first_is_not_counted(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_limits = raced()
    url = post_whole(before_limits.test_client(), b"abc").json["url"]  # type: ignore[index]
    app = raced(**ROOMY)
    rival = Rival(lambda: Tus(app.test_client()).post(Upload_Length="5").status_code)
    after(monkeypatch, registered(app).quotas, "remove_file", rival.meet)
    assert app.test_client().delete(url).status_code == 204
    assert rival.end() == 201
    assert Watch(app).look().told[""] == Sums(1, 5, 0)
    assert_exact(app)


# -- room that comes back --------------------------------------------------------------


def test_length_that_finds_room_between_the_try_and_the_look_is_counted(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Growing(ChunkedUploadBlueprint):
        most = 2

        def get_max_bytes(self) -> int:
            return self.most

    app = raced(blueprint_class=Growing, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=10)
    tus = Tus(app.test_client())
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    Growing.most = 10
    other = tus.create(8)
    rival = Rival(lambda: Tus(app.test_client()).delete(other).status_code)
    quotas = registered(app).quotas
    before(monkeypatch, quotas, "require_room", rival.meet)
    answer = tus.patch(url, 0, Upload_Length="5")
    assert rival.end() == 204
    # SQLite has one writer, so that nothing came back meanwhile.
    is_sqlite = registered(app).database.engine().dialect.name == "sqlite"
    assert answer.status_code == (413 if is_sqlite else 204)
    assert_exact(app)


def test_check_finds_nothing_in_what_requests_are_just_changing(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = raced(**ROOMY)
    tus = Tus(app.test_client())
    urls = [tus.create(3) for _ in range(2)]
    rival = Rival(lambda: Tus(app.test_client()).delete(urls[0]).status_code)
    counts = registered(app).quotas._counts  # type: ignore[union-attr]
    after(monkeypatch, counts, "unfinished_by_owner", rival.meet)
    with app.app_context():
        assert check() == []
    assert rival.end() == 204
    assert_exact(app)
