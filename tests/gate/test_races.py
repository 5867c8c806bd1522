"""Final uploads against requests that complete, remove or name their members."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial as bound
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from flask_chunked import ChunkedUploadBlueprint, delete_expired
from flask_chunked.engine.gate import MAX_WAITING
from flask_chunked.engine.records import Upload
from tests.aging import age_row
from tests.apps import registered, rows, stored_files
from tests.dialects.tus import Tus
from tests.exchange import id_of
from tests.figures import figure, run_seed

from .rivals import after, before, give_up_at_once, together
from .sums import Watch

NewApp = Callable[..., Flask]
#: Rounds in which requests begin at once, of the slow tier and of the fast one.
ROUNDS, SAMPLE = figure("GATE_ROUNDS", 10, 500), 3
#: Limits that nothing reaches, so that all is counted.
COUNTED = {
    "CHUNKED_UPLOAD_DOWNLOADS": True,
    "CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 1000,
    "CHUNKED_UPLOAD_MAX_STORED_BYTES": 10**9,
    "CHUNKED_UPLOAD_MAX_BYTES": 1000,
}


class Delivering(ChunkedUploadBlueprint):
    """Notes what it delivers."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.delivered: list[UUID] = []

    def deliver(self, upload: Any) -> None:
        self.delivered.append(upload.id)


@pytest.fixture(params=["files", "unfinished"])
def app(raced: NewApp, request: pytest.FixtureRequest) -> Flask:
    """Where files count, completions take the longer way."""
    config = dict(COUNTED)
    if request.param == "unfinished":
        del config["CHUNKED_UPLOAD_MAX_STORED_BYTES"]
    return raced(blueprint_class=Delivering, **config)


@pytest.fixture(
    params=[
        pytest.param(SAMPLE, id="sample"),
        pytest.param(ROUNDS, id="all", marks=pytest.mark.slow),
    ]
)
def rounds(request: pytest.FixtureRequest) -> int:
    """How often requests begin at once."""
    return int(request.param)


def delivered(app: Flask) -> Counter[UUID]:
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Delivering)
    return Counter(blueprint.delivered)


def client(app: Flask) -> Tus:
    return Tus(app.test_client())


def finals(app: Flask) -> list[Upload]:
    return [row for row in rows(app) if row.concat and not row.partial]


def assert_counted(app: Flask) -> None:
    snapshot = Watch(app).look()
    assert (snapshot.differences(), snapshot.strays) == ([], 0)


def assert_complete(app: Flask, url: str, content: bytes) -> None:
    tus = client(app)
    assert tus.head(url).headers.get("Upload-Offset") == str(len(content))
    assert tus.content(url) == content
    assert delivered(app)[id_of(url)] == 1


def assert_nothing_left_but(
    app: Flask, tmp_path: Path, *urls: str, names: int = 0
) -> None:
    """Of uploads, of their files and of the names of members."""
    assert {row.id for row in rows(app)} == {id_of(url) for url in urls}
    assert len(stored_files(tmp_path)) == len(urls)
    assert Watch(app).look().names == names
    assert_counted(app)


# -- at once ---------------------------------------------------------------------------


def test_finals_that_are_named_while_their_member_completes_are_made_once(
    app: Flask, rounds: int
) -> None:
    chance = random.Random(run_seed())
    for _ in range(rounds):
        tus = client(app)
        a, b, c = tus.partial(b"abc"), tus.partial(b"de", 3), tus.partial(b"g", 2)
        content = {a: b"abc", b: b"def", c: b"gh"}
        orders = [chance.sample([a, b, c], 3), [c, b, a], [b, c, b]]
        acts: list[Callable[[], Any]] = [
            bound(client(app).final, *order) for order in orders
        ]
        acts += [bound(client(app).patch, b, 2, b"f")]
        acts += [bound(client(app).patch, c, 1, b"h")]
        chance.shuffle(acts)
        answers = together(*acts)
        assert Counter(answer.status_code for answer in answers) == {201: 3, 204: 2}
        made = [answer.headers.get("Location") for answer in answers]
        named = {act.args: url for act, url in zip(acts, made, strict=True)}  # type: ignore[attr-defined]
        for order in orders:
            url = named[tuple(order)]
            assert url is not None
            assert_complete(app, url, b"".join(content[one] for one in order))
    assert_counted(app)


def test_members_that_complete_at_once_make_their_final_upload_once(
    app: Flask, rounds: int
) -> None:
    for _ in range(rounds):
        tus = client(app)
        parts = [tus.partial(b"ab", 3) for _ in range(3)]
        urls = [tus.final(*parts), tus.final(*reversed(parts))]
        together(*(bound(client(app).patch, part, 2, b"c") for part in parts))
        for answer in urls:
            assert_complete(app, answer.headers["Location"], b"abc" * 3)
    assert_counted(app)


def test_final_upload_whose_member_is_deleted_is_refused_or_right(
    app: Flask, tmp_path: Path, rounds: int
) -> None:
    seen: Counter[int] = Counter()
    for _ in range(rounds):
        tus = client(app)
        a, b = tus.partial(b"abc"), tus.partial(b"de", 3)
        answers = together(
            bound(client(app).final, b, a, b),
            bound(client(app).patch, b, 2, b"f"),
            bound(client(app).delete, a),
        )
        assert [answer.status_code for answer in answers[1:]] == [204, 204]
        status = answers[0].status_code
        assert status in (201, 404, 410)
        seen[status] += 1
        kept = [b]
        if status == 201:
            url = answers[0].headers["Location"]
            kept.append(url)
            head = tus.head(url)
            if "Upload-Offset" in head.headers:
                assert_complete(app, url, b"defabcdef")
            else:
                assert head.status_code in (404, 410)
        assert {row.id for row in rows(app)} == {id_of(one) for one in kept}
        assert_counted(app)
        for one in kept:
            tus.delete(one)
        assert_nothing_left_but(app, tmp_path)
    print(dict(seen))


def test_as_many_finals_as_are_allowed_wait_for_a_partial_upload(
    app: Flask, rounds: int
) -> None:
    more = 4
    for _ in range(max(1, rounds // 5)):
        tus = client(app)
        a, b = tus.partial(b"ab", 3), tus.partial(b"d", 2)
        herd = [client(app).final for _ in range(MAX_WAITING + more)]
        acts = [bound(final, *((a, b), (b, a))[n % 2]) for n, final in enumerate(herd)]
        answers = together(*acts)
        codes = Counter(answer.status_code for answer in answers)
        assert codes == {201: MAX_WAITING, 429: more}
        assert tus.patch(a, 2, b"c").status_code == 204
        assert tus.patch(b, 1, b"e").status_code == 204
        for number, answer in enumerate(answers):
            if answer.status_code == 201:
                content = (b"abcde", b"deabc")[number % 2]
                assert_complete(app, answer.headers["Location"], content)
    assert_counted(app)


# -- at one point ----------------------------------------------------------------------

#: Steps of a final upload's making: a method of the repository, the calls before it,
#: and whether a member's bytes are needed after it.
STEPS = [
    ("create", 0, True),
    ("members", 0, True),
    ("claim", 0, True),
    ("holds", 0, True),
    ("advance", 0, True),
    ("holds", 1, True),
    ("advance", 1, False),
    ("_end", 0, False),
    ("claim_delivery", 0, False),
]


@pytest.mark.parametrize(("step", "skip", "needs"), STEPS)
def test_member_that_is_deleted_at_a_step_of_a_final_upload(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: str,
    skip: int,
    needs: bool,
) -> None:
    tus = client(app)
    a, b = tus.partial(b"abc"), tus.partial(b"de")
    repository = registered(app).repository
    rival = bound(client(app).delete, b)
    before(monkeypatch, repository, step, rival, skip=skip)
    answer = tus.final(a, b)
    assert [row.id for row in rows(app) if row.partial] == [id_of(a)]
    if needs:
        assert answer.status_code in (404, 410)
        assert_nothing_left_but(app, tmp_path, a)
    else:
        assert answer.status_code == 201, answer.text
        assert_complete(app, answer.headers["Location"], b"abcde")
        assert_counted(app)


@pytest.mark.parametrize(("step", "skip"), [one[:2] for one in STEPS[1:]])
def test_final_upload_that_is_deleted_at_a_step_of_its_making(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str, skip: int
) -> None:
    tus = client(app)
    a, b = tus.partial(b"abc"), tus.partial(b"d", 2)
    url = tus.final(a, b).headers["Location"]
    repository = registered(app).repository
    give_up_at_once(monkeypatch, app)
    codes = []

    def watch() -> None:
        # The member's own completion took some of these steps before.
        before(monkeypatch, repository, step, delete, skip=skip)

    def delete() -> None:
        codes.append(client(app).delete(url).status_code)

    after(monkeypatch, repository, "waiting_finals", watch)
    assert tus.patch(b, 1, b"e").status_code == 204
    assert codes == [204]
    assert tus.head(url).status_code == 404
    # A final upload that was complete names its members for ever.
    names = 2 if step == "claim_delivery" else 0
    assert_nothing_left_but(app, tmp_path, a, b, names=names)


@pytest.mark.parametrize("too_late", [False, True])
def test_member_that_expires_while_a_final_upload_is_created(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, too_late: bool
) -> None:
    tus = client(app)
    a, b = tus.partial(b"abc"), tus.partial(b"de")
    here = registered(app)

    def expire() -> None:
        with app.app_context():
            delete_expired()

    # Looked at, and found young enough.
    before(monkeypatch, here.repository, "create", lambda: age_row(app, id_of(b)))
    if too_late:
        after(monkeypatch, here.repository, "create", expire)
    else:
        before(monkeypatch, here.repository, "_insert", expire)
    answer = tus.final(a, b)
    if too_late:
        assert_complete(app, answer.headers["Location"], b"abcde")
        assert_counted(app)
    else:
        assert answer.status_code in (404, 410)
        assert_nothing_left_but(app, tmp_path, a)


def test_a_member_and_its_final_upload_that_go_at_once_leave_no_name(
    app: Flask, tmp_path: Path, rounds: int
) -> None:
    for _ in range(rounds):
        tus = client(app)
        a, b = tus.partial(b"abc"), tus.partial(b"de")
        urls = [tus.final(*order).headers["Location"] for order in ((a, b), (b, a))]
        acts = [bound(client(app).delete, url) for url in (a, b, *urls)]
        assert {answer.status_code for answer in together(*acts)} == {204}
        assert_nothing_left_but(app, tmp_path)


# -- members that go with their final upload -------------------------------------------


@pytest.mark.parametrize("road", ["post", "head", "patch"])
def test_final_upload_that_another_request_made_is_told_though_its_members_went(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, road: str
) -> None:
    app = raced(
        blueprint_class=Delivering, CHUNKED_UPLOAD_KEEP_PARTIALS=False, **COUNTED
    )
    tus, rival = client(app), client(app)
    a, b = tus.partial(b"abc"), tus.partial(b"d", 2)
    repository = registered(app).repository
    if road == "post":
        after(monkeypatch, repository, "create", lambda: rival.patch(b, 1, b"e"))
        answer = tus.final(a, b)
        assert answer.status_code == 201, answer.text
        url = answer.headers["Location"]
    else:
        url = tus.final(a, b).headers["Location"]
        act = bound(rival.patch, b, 1, b"e")
        if road == "patch":
            act = bound(rival.head, url)
            # Both see the last byte.
            after(monkeypatch, repository, "waiting_finals", lambda: None)
        before(monkeypatch, repository, "members", act)
        answer = tus.head(url) if road == "head" else tus.patch(b, 1, b"e")
        assert answer.status_code in (200, 204)
    assert_complete(app, url, b"abcde")
    assert_nothing_left_but(app, tmp_path, url, names=2)
    assert tus.delete(url).status_code == 204
    assert_nothing_left_but(app, tmp_path)


def test_members_of_two_final_uploads_that_are_made_at_once_go_with_the_last(
    raced: NewApp, tmp_path: Path, rounds: int
) -> None:
    app = raced(
        blueprint_class=Delivering, CHUNKED_UPLOAD_KEEP_PARTIALS=False, **COUNTED
    )
    for _ in range(rounds):
        tus = client(app)
        a, b = tus.partial(b"ab", 3), tus.partial(b"de", 3)
        urls = [tus.final(*order).headers["Location"] for order in ((a, b), (b, a))]
        together(
            bound(client(app).patch, a, 2, b"c"), bound(client(app).patch, b, 2, b"f")
        )
        assert_complete(app, urls[0], b"abcdef")
        assert_complete(app, urls[1], b"defabc")
        assert {row.id for row in rows(app)} == {id_of(url) for url in urls}
        for url in urls:
            tus.delete(url)
        assert_counted(app)
    assert_nothing_left_but(app, tmp_path)
