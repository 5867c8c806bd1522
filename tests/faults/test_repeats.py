"""Every request is sent two or three times, late ones among newer ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.dialects.tus import Tus, checksum
from tests.exchange import PREFIX, finish, put_form, put_raw
from tests.figures import figure, run_seed

from .ground import Ground
from .invariants import Known, broken_at_rest

#: Requests in all, repeats included.
REPEATS = figure("FAULTS_REPEATS", 2_000, 50_000)
#: Of the sample in the fast tier.
SAMPLE = 150
#: What a late repeat may be told.
ALLOWED = {200, 204, 400, 409, 412, 413}

Send = Callable[[], TestResponse]


@dataclass
class Stutterer:
    """Uploads one file; each of its requests is repeated now and later.

    :ivar late: requests that are on their way twice.
    """

    ground: Ground
    chance: random.Random
    late: list[Send] = field(default_factory=list)
    sent: int = 0

    def upload(self) -> Known:
        """One file from the creation to the end."""
        content = self.chance.randbytes(self.chance.randint(1, 3000))
        client = self.ground.app.test_client()
        tus = Tus(client)
        speaks_tus = self.chance.random() < 0.5
        upload = self.ground.create(len(content))
        known = Known(upload.id, content, acked=0)
        url = f"{PREFIX}/{upload.id}"
        while known.acked < len(content):
            start = known.acked
            stop = min(len(content), start + self.chance.randint(1, 1200))
            chunk = content[start:stop]
            if speaks_tus:
                # There is no way to know the bytes again.
                self._repeat(self._patch(tus, url, start, chunk), {409, 413})
            else:
                send = self.chance.choice((put_raw, put_form))
                total = len(content)
                self._repeat(
                    partial(send, client, chunk, start=start, total=total, url=url),
                    {200},
                )
            known.acked = stop
        self._repeat(lambda: finish(client, url, content), {200})
        known.completed = True
        return known

    def _patch(self, tus: Tus, url: str, start: int, chunk: bytes) -> Send:
        told = {}
        if self.chance.random() < 0.3:
            told["Upload_Checksum"] = checksum("sha1", chunk)
        return lambda: tus.patch(url, start, chunk, **told)

    def _repeat(self, send: Send, again: set[int]) -> None:
        """The first must do; of the others some come much later.

        :param again: what one that comes at once is told.
        """
        first = send()
        assert first.status_code in (200, 204), first.text
        self.sent += 1
        for _ in range(self.chance.randint(1, 2)):
            if self.chance.random() < 0.5:
                self.late.append(send)
            else:
                self._again(send, again)
        while self.late and self.chance.random() < 0.4:
            late = self.late.pop(self.chance.randrange(len(self.late)))
            self._again(late, ALLOWED)

    def _again(self, send: Send, allowed: set[int]) -> None:
        answer = send()
        assert answer.status_code in allowed, answer.text
        self.sent += 1

    def calm_down(self) -> None:
        """What is still on its way arrives."""
        self.chance.shuffle(self.late)
        while self.late:
            self._again(self.late.pop(), ALLOWED)


@pytest.mark.parametrize(
    "repeats",
    [
        pytest.param(SAMPLE, id="sample"),
        pytest.param(REPEATS, id="all", marks=pytest.mark.slow),
    ],
)
def test_repeats_change_nothing(tmp_path: Path, repeats: int) -> None:
    chance = random.Random(run_seed())
    ground = Ground(tmp_path, CHUNKED_UPLOAD_DURABLE=False)
    stutterer = Stutterer(ground, chance)
    with ground.open():
        uploads = []
        while stutterer.sent < repeats:
            uploads.append(stutterer.upload())
        stutterer.calm_down()
        assert broken_at_rest(ground, uploads) == []
        for known in uploads:
            assert len(ground.deliveries(known.id)) == 1


@pytest.mark.parametrize("send", [put_raw, put_form])
def test_a_repeat_with_other_bytes_is_none(
    tmp_path: Path, send: Callable[..., TestResponse]
) -> None:
    chance = random.Random(run_seed())
    ground = Ground(tmp_path)
    with ground.open():
        content = chance.randbytes(900)
        upload = ground.create(len(content))
        known = Known(upload.id, content, acked=0)
        place = {"total": 900, "url": f"{PREFIX}/{upload.id}"}
        for start in (0, 300, 600):
            client = ground.app.test_client()
            chunk = content[start : start + 300]
            assert send(client, chunk, start=start, **place).status_code == 200
            other = chunk[:-1] + bytes([chunk[-1] ^ 1])
            answer = send(client, other, start=start, **place)
            assert answer.status_code == 400, answer.text
            assert send(client, chunk, start=start, **place).status_code == 200
        known.acked = 900
        assert broken_at_rest(ground, [known]) == []
