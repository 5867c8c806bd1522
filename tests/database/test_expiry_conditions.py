"""Expiry in concatenations: which uploads are kept alive by which others."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from flask_chunked.engine.records import Cutoff, Upload
from flask_chunked.exceptions import UploadExpired

from .conftest import ACTIVE, IDLE, NOW, SINCE, Concatenations

# -- who lives by whom -----------------------------------------------------------------


def expirable(factory: Concatenations) -> set[UUID]:
    """What is found, and would be given up now."""
    cutoff = Cutoff(idle_since=SINCE, created_before=None)
    return {row.id for row in factory.repository.expirable(cutoff, expired_too=False)}


@pytest.mark.parametrize(
    ("a", "b", "final", "status", "kept"),
    [
        pytest.param(IDLE, IDLE, IDLE, "uploading", "", id="all-idle"),
        pytest.param(ACTIVE, IDLE, IDLE, "uploading", "abf", id="a-member-is-active"),
        pytest.param(IDLE, IDLE, ACTIVE, "uploading", "abf", id="the-final-is-new"),
        pytest.param(ACTIVE, IDLE, IDLE, "completing", "abf", id="it-is-completing"),
        pytest.param(ACTIVE, IDLE, IDLE, "complete", "af", id="it-is-complete"),
        pytest.param(IDLE, IDLE, ACTIVE, "complete", "f", id="it-was-just-completed"),
        pytest.param(ACTIVE, IDLE, IDLE, "expired", "af", id="it-is-expired"),
    ],
)
def test_a_concatenation_that_waits_lives_by_any_of_its_uploads(
    factory: Concatenations,
    a: datetime,
    b: datetime,
    final: datetime,
    status: str,
    kept: str,
) -> None:
    uploads = {"a": factory.partial(b"a"), "b": factory.partial(b"b", 2)}
    uploads["f"] = factory.final(*uploads.values())
    stranger = factory.partial(b"c")
    factory.set(stranger, last_activity_at=IDLE)
    for name, moment in zip("abf", (a, b, final), strict=True):
        factory.set(uploads[name], last_activity_at=moment)
    factory.set(uploads["f"], status=status)
    gone = {upload.id for name, upload in uploads.items() if name not in kept}
    assert expirable(factory) == gone | {stranger.id}
    # The statement that gives up decides alike, and changes nothing of the others.
    cutoff = Cutoff(idle_since=SINCE, created_before=None)
    given_up = {
        upload.id
        for upload in uploads.values()
        if factory.repository.begin_expiry(upload.id, cutoff) is not None
    }
    assert given_up == gone


def test_a_lifetime_ends_however_active_the_others_are(factory: Concatenations) -> None:
    a, b = factory.partial(b"a"), factory.partial(b"b", 2)
    final = factory.final(a, b)
    factory.set(a, created_at=SINCE)
    cutoff = Cutoff(idle_since=SINCE, created_before=SINCE)
    found = {row.id for row in factory.repository.expirable(cutoff, expired_too=False)}
    assert found == {a.id}
    assert factory.repository.begin_expiry(final.id, cutoff) is None
    assert factory.repository.begin_expiry(a.id, cutoff) is not None


def test_group_activity_is_the_last_of_the_waiting_concatenation(
    factory: Concatenations,
) -> None:
    def at(day: int) -> datetime:
        return NOW + timedelta(days=day)

    a, b, c = (factory.partial(b"x", 2) for _ in range(3))
    first, second = factory.final(a, b), factory.final(b, c)
    for day, upload in enumerate((a, b, c, first, second)):
        factory.set(upload, last_activity_at=at(day))

    def activity(upload: Upload) -> datetime | None:
        return factory.repository.group_activity(upload)

    # Of a final: its members'; of a member: its finals' and their members'.
    assert [activity(first), activity(second)] == [at(1), at(2)]
    assert [activity(a), activity(b), activity(c)] == [at(3), at(4), at(4)]
    factory.engine.remove.terminate(second)
    assert [activity(a), activity(b), activity(c)] == [at(3), at(3), None]


def test_statement_and_engine_agree_on_what_is_alive(factory: Concatenations) -> None:
    """The engine asks row by row, the clean-up with one query."""
    chance = random.Random(17)
    partials = [factory.partial(b"x", chance.randint(1, 2)) for _ in range(12)]
    finals = [
        factory.final(*chance.sample(partials, chance.randint(1, 3))) for _ in range(8)
    ]
    uploads: list[Any] = [*partials, *finals]
    engine = factory.engine
    engine.clock = lambda: NOW
    engine.expiry._idle = timedelta(days=1)
    for _ in range(8):
        for upload in uploads:
            moment = chance.choice([ACTIVE, IDLE, IDLE, IDLE, IDLE])
            factory.set(upload, last_activity_at=moment)
        for final in finals:
            factory.set(final, status=chance.choice(["uploading", "complete"]))
        found = expirable(factory)
        for upload in uploads:
            row = factory.repository.get(upload.id)
            assert row is not None
            assert is_expired(factory, row) is (row.id in found)


def is_expired(factory: Concatenations, row: Upload) -> bool:
    try:
        factory.engine.expiry.require_live(row)
    except UploadExpired:
        return True
    return False
