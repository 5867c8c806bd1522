"""Commits without a reply: the row is asked, and the client is told what it says."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import URL
from werkzeug.test import TestResponse

from flask_chunked.engine.records import CompletionRecord, Cutoff, NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import DatabaseUnavailable
from tests.exchange import PREFIX, finish, id_of, put_form, put_raw
from tests.figures import figure, run_seed
from tests.postgres import as_setting

from .commits import AFTER, BEFORE, NOTHING, Choose, lossy
from .ground import Ground, append_staged, append_streamed, content
from .invariants import Known, broken_at_rest

#: Replies lost on each database; half of these commits happened.
LOST = figure("LOST_COMMITS", 100, 1_000)
#: Replies lost in the fast tier.
SAMPLE = 25
#: Requests that one upload may take.
PATIENCE = 60

LENGTH = 3_000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """An app on each database, with quotas, so that two tables are in a commit."""
    config: dict[str, Any] = {"CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 1_000_000}
    if request.param == "postgresql":
        database: URL = request.getfixturevalue("postgres_database")
        config["SQLALCHEMY_DATABASE_URI"] = as_setting(database)
    made = Ground(tmp_path, **config)
    with made.open():
        yield made


# -- one write at a time ---------------------------------------------------------------

Write = Callable[[Ground, Upload], object]


def _append(ground: Ground, upload: Upload) -> object:
    append_staged(ground.engine, upload, 0, _data(upload)[:1_000])
    return _now(ground, upload).offset == 1_000


def _stream(ground: Ground, upload: Upload) -> object:
    data = _data(upload)
    append_streamed(ground.engine, upload, 0, [data[:600], None, data[600:1_000]])
    return _now(ground, upload).offset == 1_000


def _stream_to_the_end(ground: Ground, upload: Upload) -> object:
    data = _data(upload)
    after = append_streamed(ground.engine, upload, 0, [data], finishing=True)
    return (
        after.status is Status.COMPLETING
        and ground.engine.complete.finish(after).completed_now
    )


def _complete(ground: Ground, upload: Upload) -> object:
    done = ground.engine.complete.request(upload, None)
    return done.completed_now and done.upload.is_complete


def _terminate(ground: Ground, upload: Upload) -> object:
    ground.engine.remove.terminate(upload)
    return ground.engine.repository.get(upload.id) is None


def _expire(ground: Ground, upload: Upload) -> object:
    cutoff = Cutoff(ground.engine.clock() + timedelta(seconds=1), None)
    return ground.engine.remove.expire(upload, cutoff, keep_record=False)


def _declare(ground: Ground, upload: Upload) -> object:
    return ground.engine.declare.length(upload, LENGTH).length == LENGTH


def _create(ground: Ground, upload: Upload) -> object:
    return ground.create(5).length == 5


def _create_with(ground: Ground, upload: Upload) -> object:
    return ground.create_with(5, 3).offset == 3


@dataclass(frozen=True)
class Case:
    """A write on an upload that stands at ``offset`` of ``length``."""

    write: Write
    offset: int = 0
    length: int | None = LENGTH


CASES = {
    "create": Case(_create),
    "create with bytes": Case(_create_with),
    "append a staged chunk": Case(_append),
    "append a streamed chunk": Case(_stream),
    "append to the end, and complete": Case(_stream_to_the_end),
    "take over": Case(lambda ground, upload: ground.engine.append.take_over(upload)),
    "declare the length": Case(_declare, length=None),
    "complete": Case(_complete, offset=LENGTH),
    "terminate": Case(_terminate, offset=LENGTH),
    "expire": Case(_expire),
}


def _data(upload: Upload) -> bytes:
    return content(upload.id, LENGTH)


def _now(ground: Ground, upload: Upload) -> Upload:
    row = ground.engine.repository.get(upload.id)
    assert row is not None
    return row


def _prepared(ground: Ground, case: Case) -> Upload:
    upload = ground.engine.create.upload(
        NewUpload(None, "a.bin", case.length, dialect="content-range")
    )
    if case.offset:
        append_staged(ground.engine, upload, 0, _data(upload)[: case.offset])
    return _now(ground, upload)


def _only(number: int, fate: str) -> Choose:
    return lambda commit: fate if commit == number else NOTHING


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_write_that_happened_is_found_in_the_row(ground: Ground, case: Case) -> None:
    upload = _prepared(ground, case)
    with lossy(ground.here.database, lambda _: NOTHING) as commits:
        assert case.write(ground, upload)
    assert commits.count
    for lost in range(commits.count):
        upload = _prepared(ground, case)
        with lossy(ground.here.database, _only(lost, AFTER)):
            assert case.write(ground, upload), f"reply {lost} of {commits.count}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_write_that_did_not_happen_leaves_nothing_behind(
    ground: Ground, case: Case
) -> None:
    for lost in range(1_000):
        upload = _prepared(ground, case)
        with lossy(ground.here.database, _only(lost, BEFORE)) as commits:
            try:
                assert case.write(ground, upload)
            except DatabaseUnavailable:
                row = _now(ground, upload)
                # A stream commits once more what it could not commit.
                assert row.offset > upload.offset or case.write(ground, row)
        if not commits.lost:
            break
    rows = ground.here.repository.matching()
    known = [
        Known(row.id, content(row.id, row.length or 0), doomed=True) for row in rows
    ]
    assert broken_at_rest(ground, known) == []


@pytest.mark.parametrize("fate", [BEFORE, AFTER])
def test_file_that_is_finished_first_is_found_by_its_event(
    tmp_path: Path, fate: str
) -> None:
    """Without quotas, where one commit completes an upload."""
    ground = Ground(tmp_path)
    with ground.open():
        upload = ground.create(10)
        data = content(upload.id, 10)
        with lossy(ground.here.database, _only(0, fate)) as commits:
            if fate == AFTER:
                done = append_streamed(ground.engine, upload, 0, [data], finishing=True)
            else:
                with pytest.raises(DatabaseUnavailable):
                    append_streamed(ground.engine, upload, 0, [data], finishing=True)
                assert _now(ground, upload) == upload
                append_streamed(ground.engine, upload, 0, [data], finishing=True)
                done = ground.engine.complete.request(_now(ground, upload), None).upload
        assert commits.lost == 1
        assert done.is_complete
        known = Known(upload.id, data, acked=10, completed=True)
        assert broken_at_rest(ground, [known]) == []


@pytest.mark.parametrize("count", [4, 10])
@pytest.mark.parametrize("fate", [BEFORE, AFTER])
def test_bytes_without_an_answer_to_their_row_are_kept(
    tmp_path: Path, fate: str, count: int
) -> None:
    ground = Ground(tmp_path)
    with ground.open():
        with lossy(ground.here.database, _only(0, fate)) as commits:
            if fate == AFTER:
                assert ground.create_with(10, count).offset == count
            else:
                with pytest.raises(DatabaseUnavailable):
                    ground.create_with(10, count)
        assert commits.lost == 1
        # The row may come yet, for all that anybody can tell.
        assert [item.size for item in ground.here.storage.stored()] == [count]
        known = [
            Known(row.id, content(row.id, 10), acked=count, completed=row.is_complete)
            for row in ground.here.repository.matching()
        ]
        assert len(known) == (fate == AFTER)
        assert broken_at_rest(ground, known) == []


def test_bytes_of_a_row_that_cannot_be_looked_for_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit happened; then the database is away for the look at it as well."""
    ground = Ground(tmp_path)

    def away(upload_id: UUID) -> Upload | None:
        raise DatabaseUnavailable

    with ground.open():
        repository = ground.engine.repository
        with (
            monkeypatch.context() as patched,
            lossy(ground.here.database, _only(0, AFTER)),
            pytest.raises(DatabaseUnavailable),
        ):
            patched.setattr(repository, "get", away)
            ground.create_with(10, 10)
        (row,) = ground.here.repository.matching()
        known = Known(row.id, content(row.id, 10), acked=10, completed=row.is_complete)
        assert broken_at_rest(ground, [known]) == []


def test_completion_of_another_request_is_not_taken_for_ours(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = _prepared(ground, CASES["complete"])
    repository, now = ground.engine.repository, ground.engine.clock()
    theirs, ours = CompletionRecord(uuid4(), False), CompletionRecord(uuid4(), False)
    assert repository.begin_completion(upload.id, now, None)
    get = repository.get

    def get_later(upload_id: UUID) -> Upload | None:
        assert repository.complete(upload_id, theirs, now)
        return get(upload_id)

    monkeypatch.setattr(repository, "get", get_later)
    with (
        lossy(ground.here.database, _only(0, BEFORE)),
        pytest.raises(DatabaseUnavailable),
    ):
        repository.complete(upload.id, ours, now)
    row = get(upload.id)
    assert row is not None
    assert row.event_id == theirs.event_id


# -- whole lives -----------------------------------------------------------------------


class Client:
    """Uploads file after file, and goes on from whatever it is told."""

    def __init__(self, ground: Ground, chance: random.Random) -> None:
        self._client = ground.app.test_client()
        self._chance = chance
        self.answers: Counter[str] = Counter()

    def upload(self, ground: Ground) -> Known:
        """One life; what the client knows at its end."""
        url, known = self._begin()
        data = known.content
        while known.acked < len(data):
            stop = min(len(data), known.acked + self._chance.randint(1, LENGTH // 2))
            put = self._chance.choice([put_raw, put_form])
            start = known.acked
            answer = self._told(
                put(
                    self._client,
                    data[start:stop],
                    start=start,
                    total=len(data),
                    url=url,
                )
            )
            if answer.status_code == 200:
                known.acked = stop
                continue
            head = self._until(lambda: self._client.head(url), 200)
            told = int(head.headers["Upload-Offset"])
            assert told >= known.acked, "an acknowledged byte is lost"
            known.acked = told
        self._until(lambda: finish(self._client, url, data), 200)
        known.completed = True
        if self._chance.random() < 0.3:
            known.doomed = True
            self._until(lambda: self._client.delete(url), 204, 404)
        return known

    def _begin(self) -> tuple[str, Known]:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(LENGTH)}
        made = self._until(
            lambda: self._client.post(f"{PREFIX}/", headers=headers), 201
        )
        url = made.headers["Location"]
        return url, Known(id_of(url), content(id_of(url), LENGTH), acked=0)

    def _until(self, act: Callable[[], TestResponse], *wanted: int) -> TestResponse:
        for _ in range(PATIENCE):
            answer = self._told(act())
            if answer.status_code in wanted:
                return answer
        raise AssertionError(f"stuck: {answer.status} {answer.text}")

    def _told(self, answer: TestResponse) -> TestResponse:
        """Only what is documented: done, come again, or where to go on."""
        self.answers[answer.status] += 1
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) > 0
        elif answer.status_code == 400:
            assert "expected_offset" in (answer.json or {}), answer.text
        else:
            assert answer.status_code in (200, 201, 204, 404), answer.text
        return answer


def play(ground: Ground, replies: int) -> None:
    chance = random.Random(run_seed())

    def choose(_: int) -> str:
        if chance.random() < 0.2:
            return chance.choice([AFTER, BEFORE])
        return NOTHING

    client = Client(ground, chance)
    known: list[Known] = []
    with lossy(ground.here.database, choose) as commits:
        while commits.lost < replies:
            known.append(client.upload(ground))
    print(f"{commits.lost} of {commits.count} lost; {dict(client.answers)}")
    told = {one.id for one in known}
    # Those that were made and nobody was told of.
    for row in ground.here.repository.matching():
        if row.id not in told:
            data = content(row.id, row.length or 0)
            known.append(Known(row.id, data, doomed=True))
    assert broken_at_rest(ground, known) == []


def test_lives_in_which_few_replies_are_lost(ground: Ground) -> None:
    play(ground, SAMPLE)


@pytest.mark.slow
def test_lives_in_which_replies_are_lost(ground: Ground) -> None:
    play(ground, LOST)
