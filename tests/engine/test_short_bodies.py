"""Short bodies claim under the lock of their one section, new uploads not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    OffsetMismatch,
    Superseded,
    UnknownUpload,
)
from tests.engine.fakes import Bench, ScriptedReader

CONTENT = b"0123456789"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    return bench.create(len(CONTENT))


def short(*script: object) -> ScriptedReader:
    reader = ScriptedReader(*script)  # type: ignore[arg-type]
    reader.is_short = True
    return reader


def watch(bench: Bench) -> list[str]:
    """Names of the repository's methods, from now on."""
    calls: list[str] = []
    bench.repository.before = calls.append
    return calls


def append(bench: Bench, upload: Upload, reader: ScriptedReader) -> Upload:
    return bench.engine.append_stream(upload, upload.offset, len(CONTENT), reader)


def test_claim_under_the_lock_needs_no_look_at_the_fence(
    bench: Bench, upload: Upload
) -> None:
    calls = watch(bench)
    after = append(bench, upload, short(CONTENT))
    assert [call for call in calls if call != "holds"] == ["claim", "advance"]
    # The one is the memory repository's own, inside advance().
    assert calls.index("holds") > calls.index("advance")
    assert after == bench.row(upload)
    assert bench.stored(upload) == CONTENT


def test_new_upload_is_as_good_as_claimed(bench: Bench, upload: Upload) -> None:
    calls = watch(bench)
    bench.engine.append_stream(upload, 0, 10, short(CONTENT), is_new=True)
    assert calls[:2] == ["holds", "advance"]
    assert bench.stored(upload) == CONTENT


def test_new_upload_that_was_taken_over_is_left_alone(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.take_over(upload)
    with pytest.raises(Superseded):
        bench.engine.append_stream(upload, 0, 10, short(CONTENT), is_new=True)
    assert bench.row(upload).offset == 0


def test_stale_offset_is_a_conflict_and_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    append(bench, upload, short(CONTENT))
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(b"other"))
    assert bench.stored(upload) == CONTENT


def test_other_start_than_the_snapshots_is_refused_before_the_body(
    bench: Bench, upload: Upload
) -> None:
    reader = short(CONTENT)
    with pytest.raises(OffsetMismatch):
        bench.engine.append_stream(upload, 5, 10, reader)
    assert not reader.ended


def test_refused_upload_gets_no_file(bench: Bench, upload: Upload) -> None:
    bench.repository.rows[upload.id] = replace(upload, status=Status.COMPLETING)
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(CONTENT))
    assert list(bench.storage.stored()) == []


def test_silent_client_claims_before_it_is_waited_for(
    bench: Bench, upload: Upload
) -> None:
    calls = watch(bench)
    seen: list[list[str]] = []
    append(bench, upload, short(None, lambda: seen.append(list(calls)), CONTENT))
    assert seen == [["claim"]]


def test_client_that_went_away_is_told_who_took_over(
    bench: Bench, upload: Upload
) -> None:
    append(bench, upload, short(CONTENT))
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(BodyInterrupted()))


def test_file_that_is_gone_is_explained_by_the_claim(
    bench: Bench, upload: Upload
) -> None:
    half = bench.engine.append_stream(upload, 0, 5, short(CONTENT[:5]))
    done = append(bench, half, short(CONTENT[5:]))
    bench.engine.complete(done, None)
    with pytest.raises(AlreadyComplete):
        append(bench, half, short(CONTENT[5:]))
    bench.engine.terminate(bench.row(upload))
    with pytest.raises(UnknownUpload):
        append(bench, half, short(CONTENT[5:]))


def test_state_that_changed_since_the_look_is_anothers(
    bench: Bench, upload: Upload
) -> None:
    def save(name: str) -> None:
        if name == "claim":
            row = bench.repository.rows[upload.id]
            bench.repository.rows[upload.id] = replace(row, storage_state={"a": 1})

    bench.repository.before = save
    with pytest.raises(Superseded):
        append(bench, upload, short(CONTENT))
    assert bench.row(upload).offset == 0


def test_storage_with_parts_is_opened_for_the_claimed_row(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(bench.storage), "keeps_parts", True)
    calls = watch(bench)
    append(bench, upload, short(CONTENT))
    assert calls[:2] == ["claim", "holds"]


def test_late_claim_frees_others_and_not_its_own_reader(
    bench: Bench, upload: Upload
) -> None:
    mine = short(CONTENT)
    theirs = ScriptedReader(
        b"abc",
        lambda: append(bench, bench.row(upload), mine),
        b"def",
    )
    with pytest.raises(Superseded):
        append(bench, upload, theirs)
    assert (mine.interrupts, theirs.interrupts) == (0, 1)
    assert bench.stored(upload) == CONTENT


def test_client_that_is_let_go_before_its_claim_takes_nothing_over(
    bench: Bench, upload: Upload
) -> None:
    taken: list[Upload] = []
    reader = short(
        lambda: taken.append(bench.engine.take_over(upload)), BodyInterrupted()
    )
    with pytest.raises(Superseded):
        append(bench, upload, reader)
    assert bench.row(upload).fence == taken[0].fence


def test_client_that_goes_away_before_its_claim_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    with pytest.raises(BodyInterrupted):
        append(bench, upload, short(BodyInterrupted()))
    assert bench.row(upload) == upload
