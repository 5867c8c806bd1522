"""The clock is put forward and back by up to a day, all the time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flask_chunked import maintenance
from tests.exchange import PREFIX, finish, put_raw
from tests.figures import figure, run_seed

from .ground import Ground
from .invariants import Known, broken_at_rest

#: Lives of some uploads under a wrong clock.
LIVES = figure("FAULTS_CLOCKS", 20, 200)
SAMPLE = 2
#: The clock is never more wrong than this.
WRONG = timedelta(days=1)
#: Longer than any step, so that no upload that lives may be given up.
EXPIRATION = 2 * WRONG + timedelta(minutes=1)


class Clock:
    """The right time, and how wrong it is told."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._wrong = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(timezone.utc) + self._wrong

    def step(self) -> None:
        """Forward or back."""
        self._wrong = WRONG * self._chance.uniform(-1, 1)

    def put_right(self) -> None:
        """And a day goes by, so that whatever was begun under any time is over."""
        self._wrong = WRONG + timedelta(minutes=2)


def live(ground: Ground, clock: Clock, chance: random.Random) -> Known:
    content = chance.randbytes(chance.randint(500, 5000))
    client = ground.app.test_client()
    upload = ground.create(len(content))
    known = Known(upload.id, content, acked=0)
    url = f"{PREFIX}/{upload.id}"
    while known.acked < len(content):
        clock.step()
        start = known.acked
        chunk = content[start : start + chance.randint(1, 1500)]
        answer = put_raw(client, chunk, start=start, total=len(content), url=url)
        assert answer.status_code == 200, answer.text
        known.acked = start + len(chunk)
        clock.step()
        assert maintenance.delete_expired() == []
        assert client.head(url).headers["Upload-Offset"] == str(known.acked)
    clock.step()
    ground.blueprint.refuses = chance.random() < 0.5
    for _ in range(2):
        assert finish(client, url, content).status_code == 200
        clock.step()
    ground.blueprint.refuses = False
    assert maintenance.delete_expired() == []
    known.completed = True
    return known


@pytest.mark.parametrize(
    "lives",
    [
        pytest.param(SAMPLE, id="sample"),
        pytest.param(LIVES, id="all", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_clock_loses_nothing_and_delivers_once(
    tmp_path: Path, lives: int
) -> None:
    chance = random.Random(run_seed())
    ground = Ground(tmp_path, CHUNKED_UPLOAD_EXPIRATION_DELTA=EXPIRATION)
    clock = Clock(chance)
    with ground.open() as engine:
        engine.clock = clock
        uploads = [live(ground, clock, chance) for _ in range(lives)]
        clock.put_right()
        assert broken_at_rest(ground, uploads) == []
        for known in uploads:
            assert len(ground.deliveries(known.id)) == 1
