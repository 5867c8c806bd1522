"""Driver: eight clients at one upload at the same time, in threads or in processes.

``python -m tests.faults.duels DIRECTORY threads|processes --duels N --seed S`` ends
with 1 and says what is broken, if anything is. The seed decides what each client does.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked import maintenance
from flask_chunked.engine import stream
from flask_chunked.engine.records import Upload
from flask_chunked.request import body as bodies
from tests.apps import dispose
from tests.exchange import PREFIX, finish, put_form, put_raw

from .ground import Ground, on_database
from .herd import STUCK_AFTER, Child, Report
from .invariants import Known, broken_at_rest
from .s3_ground import ground_at

#: Clients of a duel, and requests of a client.
CLIENTS, REQUESTS = 8, 6
#: Bytes of an upload, and of a chunk at most.
SMALLEST, LARGEST, LARGEST_CHUNK = 3_000, 16_000, 6_000
#: Small blocks and sections, so that writers meet in the middle of a chunk.
BLOCK, SECTION = 1_500, 3_000
#: All these times so much, so that uploads have parts.
LONG = 1_000
#: Documented answers of a duel. Nobody needs to wait so long that it is a 503.
ANSWERS = {200, 204, 400, 404, 410}


@dataclass(frozen=True)
class Duel:
    """What all clients of a duel know.

    :param same: all clients send the same bytes.
    :param roles: what each client does, by name.
    """

    upload_id: str
    length: int
    seed: int
    same: bool
    roles: list[str]
    scale: int = 1

    def content(self, client: int) -> bytes:
        """The file as this client has it."""
        version = 0 if self.same else client + 1
        return random.Random(f"{self.upload_id}/{version}").randbytes(self.length)


@dataclass
class Story:
    """What a client was told."""

    client: int
    #: Ranges acknowledged: start, stop.
    acked: list[list[int]] = field(default_factory=list)
    offset: int = 0
    completed: bool = False
    ended: bool = False
    statuses: list[int] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


class Client:
    """One client of a duel."""

    def __init__(self, ground: Ground, duel: Duel, number: int) -> None:
        self._ground = ground
        self._duel = duel
        self._random = random.Random(duel.seed * CLIENTS + number)
        self._client: FlaskClient = ground.app.test_client()
        self._url = f"{PREFIX}/{duel.upload_id}"
        self._content = duel.content(number)
        self.story = Story(number)

    def fight(self) -> Story:
        """Play the role to its end."""
        role: Callable[[], None] = getattr(self, self._duel.roles[self.story.client])
        try:
            role()
        except Exception as error:
            self.story.odd.append(f"{type(error).__name__}: {error}")
        return self.story

    def append(self) -> None:
        """HEAD and PUT, and again from wherever the upload stands."""
        offset = self._head() if self._random.random() < 0.5 else 0
        for _ in range(REQUESTS):
            if offset is None:
                return
            if offset == self._duel.length:
                self._finish()
                return
            size = self._random.randint(1, LARGEST_CHUNK * self._duel.scale)
            stop = min(self._duel.length, offset + size)
            offset = self._put(offset, stop)

    def ask(self) -> None:
        """A storm of HEAD, which takes over each time."""
        for _ in range(2 * REQUESTS):
            self._head()

    def complete(self) -> None:
        """POST, too early mostly."""
        for _ in range(REQUESTS):
            self._finish()

    def terminate(self) -> None:
        """DELETE, a little later."""
        for _ in range(self._random.randint(0, REQUESTS)):
            self._head()
        self._note(self._client.delete(self._url))

    def expire(self) -> None:
        """The cleanup, as a scheduler runs it."""
        for _ in range(REQUESTS):
            with self._ground.app.app_context():
                gone = list(maintenance.delete_expired())
                self.story.ended |= bool(gone)

    def _head(self) -> int | None:
        answer = self._note(self._client.head(self._url))
        if answer.status_code != 200:
            return None
        return self._told(int(answer.headers["Upload-Offset"]))

    def _put(self, start: int, stop: int) -> int | None:
        send = self._random.choice((put_raw, put_form))
        chunk, total = self._content[start:stop], self._duel.length
        answer = self._note(
            send(self._client, chunk, start=start, total=total, url=self._url)
        )
        told = answer.get_json(silent=True) or {}
        if answer.status_code == 200:
            self.story.acked.append([start, stop])
            return self._told(max(stop, int(told["offset"])))
        expected = told.get("expected_offset")
        return None if expected is None else self._told(int(expected))

    def _finish(self) -> None:
        answer = self._note(finish(self._client, self._url, self._content))
        self.story.completed |= answer.status_code == 200

    def _told(self, offset: int) -> int:
        self.story.offset = max(self.story.offset, offset)
        return offset

    def _note(self, answer: TestResponse) -> TestResponse:
        self.story.statuses.append(answer.status_code)
        self.story.ended |= answer.status_code == 204
        if answer.status_code not in ANSWERS:
            self.story.odd.append(f"{answer.status}: {answer.text}")
        return answer


class Threads:
    """The clients are threads of one process."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        sys.setswitchinterval(1e-4)

    def fight(self, duel: Duel) -> list[Story]:
        """All clients start at once; what they were told."""
        gate = threading.Barrier(CLIENTS)
        stories: list[Story] = []

        def play(number: int) -> None:
            client = Client(self._ground, duel, number)
            gate.wait()
            stories.append(client.fight())

        threads = [
            threading.Thread(target=play, args=(number,), daemon=True)
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(STUCK_AFTER)
        stuck = sum(thread.is_alive() for thread in threads)
        if stuck:
            raise TimeoutError(f"{stuck} clients are stuck")
        return stories

    def close(self) -> None:
        """Nothing is left."""


class Processes:
    """Each client has a process of its own, which lives for all duels."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._orders: list[int] = []
        self._children: list[Child] = []
        for number in range(CLIENTS):
            theirs, ours = os.pipe()
            self._orders.append(ours)
            self._children.append(Child(self._work(number, theirs)))
            os.close(theirs)

    def _work(self, number: int, orders: int) -> Callable[[Report], None]:
        def work(report: Report) -> None:
            for fd in self._orders:
                os.close(fd)
            with os.fdopen(orders) as lines:
                for line in lines:
                    client = Client(self._ground, Duel(**json.loads(line)), number)
                    report.send("story", asdict(client.fight()))

        return work

    def fight(self, duel: Duel) -> list[Story]:
        """All clients start at once; what they were told."""
        line = json.dumps(asdict(duel)).encode() + b"\n"
        for child, order in zip(self._children, self._orders, strict=True):
            child.messages()
            os.write(order, line)
        stories: list[Story] = []
        deadline = time.monotonic() + STUCK_AFTER
        while len(stories) < CLIENTS:
            for child in self._children:
                for kind, value in child.messages():
                    if kind != "story" or not isinstance(value, dict):
                        raise RuntimeError(f"a client failed: {value}")
                    stories.append(Story(**value))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{CLIENTS - len(stories)} clients are stuck")
            time.sleep(0.0005)
        return stories

    def close(self) -> None:
        """End the processes."""
        for order in self._orders:
            os.close(order)
        for child in self._children:
            child.join()


class Referee:
    """Draws duels, lets them be fought, and judges what is left."""

    def __init__(
        self, ground: Ground, arena: Threads | Processes, seed: int, scale: int = 1
    ) -> None:
        self._scale = scale
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._ground = ground
        self._arena = arena
        self._random = random.Random(seed)

    def judge(self) -> None:
        """One duel."""
        with self._ground.app.app_context():
            duel = self._draw()
            stories = self._arena.fight(duel)
            found = [odd for story in stories for odd in story.odd]
            row = self._ground.engine.repository.get(UUID(duel.upload_id))
            if row is None:
                found += self._judge_gone(duel, stories)
            else:
                found += self._judge_left(duel, stories, row)
        for story in stories:
            self.counts.update(f"{status}" for status in story.statuses)
            self.counts["acked"] += len(story.acked)
        self.problems += [f"{duel}: {problem}" for problem in found]

    def _draw(self) -> Duel:
        rng = self._random
        smallest, largest = SMALLEST * self._scale, LARGEST * self._scale
        upload = self._ground.create(rng.randint(smallest, largest))
        roles = ["append"] * CLIENTS
        for role, odds in (("ask", 0.5), ("complete", 0.5), ("terminate", 0.15)):
            if rng.random() < odds:
                roles[rng.randrange(CLIENTS)] = role
        if rng.random() < 0.2:
            roles[rng.randrange(CLIENTS)] = "expire"
            # Its time is over in the middle of the duel, unless a byte comes first.
            life = self._ground.here.settings.expiration_delta
            assert life is not None
            left = timedelta(milliseconds=rng.randint(0, 60))
            idle_since = self._ground.engine.clock() - life + left
            self._ground.set_columns(upload.id, last_activity_at=idle_since)
        length = upload.length or 0
        same = rng.random() < 0.5
        drawn = rng.getrandbits(32)
        return Duel(str(upload.id), length, drawn, same, roles, self._scale)

    def _judge_gone(self, duel: Duel, stories: list[Story]) -> list[str]:
        """Somebody ended it, and time ends nothing that took bytes just now."""
        self.counts["gone"] += 1
        if not any(story.ended for story in stories):
            return ["gone, but nobody ended it"]
        found = []
        appended = any(story.acked for story in stories)
        if appended and "terminate" not in duel.roles:
            found.append("expired although bytes of it were just acknowledged")
        pieces = [
            (story.client, start, stop)
            for story in stories
            for start, stop in story.acked
        ]
        for client, start, stop in pieces:
            for other, other_start, other_stop in pieces:
                left, right = max(start, other_start), min(stop, other_stop)
                mine = duel.content(client)[left:right]
                if left < right and mine != duel.content(other)[left:right]:
                    found.append(f"I2: two winners of bytes {left} to {right}")
        return found

    def _judge_left(self, duel: Duel, stories: list[Story], row: Upload) -> list[str]:
        found = []
        stored = (self._ground.stored_bytes(row) or b"")[: row.offset]
        if len(stored) < row.offset:
            found.append(f"I2: {len(stored)} bytes of {row.offset}")
        for story in stories:
            if story.offset > row.offset:
                found.append(f"I1: told {story.offset}, stands at {row.offset}")
            for start, stop in story.acked:
                if stored[start:stop] != duel.content(story.client)[start:stop]:
                    found.append(f"I2: bytes {start} to {stop} are not the winner's")
            if story.completed and stored != duel.content(story.client):
                found.append("I3: completed with another client's bytes")
        if not any(story.acked for story in stories):
            # Its time may be over since the last cleanup; the referee grants more.
            now = self._ground.engine.clock()
            self._ground.set_columns(row.id, last_activity_at=now)
        completed = any(story.completed for story in stories)
        rest = duel.content(0)[row.offset :]
        known = Known(
            row.id, stored + rest, acked=row.offset, completed=completed, doomed=False
        )
        self.counts["completed"] += completed
        found += broken_at_rest(self._ground, [known])
        answer = self._ground.app.test_client().delete(f"{PREFIX}/{row.id}")
        if answer.status_code != 204:
            found.append(f"I5: DELETE is {answer.status}")
        return found


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("arena", choices=["threads", "processes"])
    parser.add_argument("--duels", type=int, default=250)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--database", help="URL; default: a SQLite file")
    parser.add_argument("--s3", help="options as JSON; default: the local disk")
    parser.add_argument("--long", action="store_true", help="uploads that have parts")
    options = parser.parse_args()
    drawn = random.SystemRandom().getrandbits(32)
    seed = drawn if options.seed is None else options.seed
    # Deliveries of uploads that are terminated meanwhile are logged as failures.
    logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
    scale = LONG if options.long else 1
    bodies.BLOCK_SIZE, stream.COMMIT_BYTES = BLOCK * scale, SECTION * scale
    print(f"duels: {options.arena}, seed {seed}, {options.duels} duels", flush=True)
    config = on_database(options.database)
    ground = ground_at(options.directory, options.s3, **config)
    arena = Threads(ground) if options.arena == "threads" else Processes(ground)
    referee = Referee(ground, arena, seed, scale)
    began = time.monotonic()
    for _ in range(options.duels):
        referee.judge()
        if referee.problems:
            break
    arena.close()
    dispose(ground.app)
    print(f"{time.monotonic() - began:.1f} s; {dict(referee.counts)}")
    if not referee.counts["acked"]:
        referee.problems.append("nobody ever won: a livelock")
    for problem in referee.problems:
        print(problem)
    return 1 if referee.problems else 0


if __name__ == "__main__":
    sys.exit(main())
