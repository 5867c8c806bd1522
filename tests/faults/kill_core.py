"""Driver: writers that share uploads are killed at random instants, again and again.

``python -m tests.faults.kill_core DIRECTORY --kills N --seed S`` ends with 1 and says
what is broken, if anything is. The seed decides what is done; when a kill strikes, the
clock decides, too.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

from flask_chunked.engine.engine import Engine
from flask_chunked.engine.records import ExpectedDigest, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    AlreadyComplete,
    BytesMissing,
    Incomplete,
    OffsetMismatch,
    UnknownUpload,
)

from .ground import (
    Ground,
    append_form,
    append_staged,
    append_streamed,
    content,
    on_database,
)
from .herd import Child, Message, Report
from .invariants import Known, broken, broken_at_rest
from .s3_ground import S3Ground, ground_at

#: Processes that write at the same time.
WRITERS = 4
#: Uploads that they keep open, and complete ones that they keep.
OPEN, COMPLETE = 4, 4
#: Bytes of an upload and of a chunk, at most.
LARGEST, LARGEST_CHUNK = 200_000, 60_000
#: The same where parts of 5 MiB are to be filled, for one upload in three.
WITH_PARTS, CHUNK_WITH_PARTS = 12_000_000, 7_000_000
#: A kill strikes so many seconds after the last one, at most; on S3, too.
PAUSE, PAUSE_ON_S3 = 0.012, 0.15
#: All uploads are checked after so many strikes; the victims' after each.
CHECK_ALL = 50
#: Every so many strikes all writers die at once, as with their whole machine.
KILL_ALL = 25
#: What another writer may do to us. Everything else is a defect.
EXPECTED = (OffsetMismatch, AlreadyComplete, Incomplete, UnknownUpload)


class Writer:
    """A child that does one thing after the other until it is killed."""

    def __init__(self, ground: Ground, seed: int, report: Report) -> None:
        self._ground = ground
        self._random = random.Random(seed)
        self._report = report

    def run(self) -> None:
        """Work for ever."""
        with self._ground.app.app_context():
            self._ground.warm()
            self._report.send("ready")
            while True:
                try:
                    self._act(self._ground.engine)
                except EXPECTED as error:
                    self._report.send("refused", error.code)
                except BytesMissing as error:
                    # Allowed where another one terminates a complete upload.
                    self._report.send("missing", error.code)

    def _act(self, engine: Engine) -> None:
        rows = list(self._ground.here.repository.matching())
        open_ = [row for row in rows if not row.is_complete]
        done = [row for row in rows if row.is_complete]
        if len(open_) < OPEN:
            self._create()
        elif len(done) > COMPLETE:
            self._terminate(engine, self._random.choice(done))
        else:
            self._advance(engine, self._random.choice(open_))

    def _create(self) -> None:
        largest = LARGEST
        if isinstance(self._ground, S3Ground) and self._random.random() < 1 / 3:
            largest = WITH_PARTS
        upload = self._ground.create(self._random.randint(1, largest))
        self._report.send("created", str(upload.id), upload.length)

    def _terminate(self, engine: Engine, upload: Upload) -> None:
        self._report.send("terminating", str(upload.id), upload.length)
        engine.remove.terminate(upload)

    def _advance(self, engine: Engine, upload: Upload) -> None:
        length = upload.length or 0
        self._report.send("busy", str(upload.id), length)
        if upload.offset == length or upload.status is Status.COMPLETING:
            data = content(upload.id, length)
            self._complete(engine, upload, data)
            return
        if self._random.random() < 0.2:
            upload = engine.append.take_over(upload)
            self._report.send("acked", str(upload.id), upload.offset, length)
        self._append(engine, upload, length)

    def _append(self, engine: Engine, upload: Upload, length: int) -> None:
        start = upload.offset
        largest = self._largest_chunk(length)
        stop = min(length, start + self._random.randint(1, largest))
        chunk = content(upload.id, length)[start:stop]
        way = self._random.random()
        if way < 0.25:
            after = append_staged(engine, upload, start, chunk)
        elif way < 0.5:
            after = append_form(engine, upload, start, chunk, at_once=way < 0.37)
        else:
            after = append_streamed(engine, upload, start, self._blocks(chunk))
        self._report.send("acked", str(upload.id), max(stop, after.offset), length)

    def _largest_chunk(self, length: int) -> int:
        return LARGEST_CHUNK if length <= LARGEST else CHUNK_WITH_PARTS

    def _blocks(self, chunk: bytes) -> list[bytes | None]:
        blocks: list[bytes | None] = []
        largest = self._largest_chunk(len(chunk)) // 2
        while chunk:
            size = self._random.randint(1, largest)
            blocks.append(chunk[:size])
            chunk = chunk[size:]
            # A silent client: what is there so far is committed.
            if self._random.random() < 0.5:
                blocks.append(None)
        return blocks

    def _complete(self, engine: Engine, upload: Upload, data: bytes) -> None:
        engine.complete.request(
            upload, ExpectedDigest("sha256", hashlib.sha256(data).hexdigest())
        )
        self._report.send("completed", str(upload.id), len(data))


class Killer:
    """Lets writers work, kills them, and compares what is left with what was told."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.ground = ground
        self.known: dict[UUID, Known] = {}
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._writers: list[Child] = []
        self._warm: set[int] = set()
        self._last: dict[int, UUID] = {}

    def run(self, kills: int) -> None:
        """Kill so often, or until something is broken."""
        strikes = 0
        while self.counts["kills"] < kills and not self.problems:
            while len(self._writers) < WRITERS:
                self._writers.append(self._new_writer())
            strikes += 1
            victims = [self._pick()]
            if strikes % KILL_ALL == 0:
                victims = list(self._writers)
            for victim in victims:
                self._kill(victim)
            touched = {self._last[v.pid] for v in victims if v.pid in self._last}
            self._check(set(self.known) if strikes % CHECK_ALL == 0 else touched)
        for writer in list(self._writers):
            self._kill(writer)

    def rest(self) -> None:
        """Everybody is gone: finish all there is, by a client that knows nothing."""
        with self.ground.open():
            for row in self.ground.here.repository.matching():
                self._of(row.id, row.length or 0)
            self.problems += broken_at_rest(self.ground, self.known.values())

    def _new_writer(self) -> Child:
        seed = self._random.getrandbits(32)
        return Child(lambda report: Writer(self.ground, seed, report).run())

    def _pick(self) -> Child:
        """A writer that has begun to work, at a random instant."""
        on_s3 = isinstance(self.ground, S3Ground)
        time.sleep(self._random.uniform(0, PAUSE_ON_S3 if on_s3 else PAUSE))
        while True:
            self._hear_all()
            warm = [one for one in self._writers if one.pid in self._warm]
            if warm:
                return self._random.choice(warm)
            if any(writer.is_stuck for writer in self._writers):
                raise TimeoutError("a writer is stuck")
            time.sleep(0.001)

    def _kill(self, victim: Child) -> None:
        self._hear(victim, victim.kill())
        self._writers.remove(victim)
        self.counts["kills"] += 1

    def _hear_all(self) -> None:
        for writer in self._writers:
            self._hear(writer, writer.messages())

    def _hear(self, writer: Child, messages: list[Message]) -> None:
        for kind, *values in messages:
            self.counts[str(kind)] += 1
            if kind == "ready":
                self._warm.add(writer.pid)
            elif kind == "error":
                self.problems.append(f"a writer failed:\n{values[0]}")
            elif len(values) > 1:
                self._last[writer.pid] = self._learn(str(kind), *values)

    def _learn(self, kind: str, name: object, *numbers: object) -> UUID:
        *offset, length = (int(str(number)) for number in numbers)
        known = self._of(UUID(str(name)), length)
        known.acked = max(known.acked, *offset, 0)
        if kind == "completed":
            known.acked = length
            known.completed = True
        known.doomed = known.doomed or kind == "terminating"
        return known.id

    def _of(self, upload_id: UUID, length: int) -> Known:
        if upload_id not in self.known:
            data = content(upload_id, length)
            self.known[upload_id] = Known(upload_id, data)
        return self.known[upload_id]

    def _check(self, wanted: set[UUID]) -> None:
        # Listen first, look second: what is told after our look must not count
        # against it. Only dooms are told before they are carried out.
        self._hear_all()
        with self.ground.open():
            for upload_id in wanted:
                known = self.known[upload_id]
                found = broken(self.ground, known)
                self._hear_all()
                if not known.doomed:
                    self.problems += found
        self.counts["checks"] += len(wanted)


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--not-durable", action="store_true")
    parser.add_argument("--database", help="URL; default: a SQLite file")
    parser.add_argument("--s3", help="options as JSON; default: the local disk")
    options = parser.parse_args()
    seed = (
        random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    )
    # Uploads that are terminated while they are delivered are logged as failures.
    logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
    print(f"kill_core: seed {seed}, {options.kills} kills", flush=True)
    began = time.monotonic()
    config = on_database(options.database)
    durable = not options.not_durable
    ground = ground_at(
        options.directory, options.s3, CHUNKED_UPLOAD_DURABLE=durable, **config
    )
    ground.keeps_connections = options.database is not None
    killer = Killer(ground, seed)
    killer.run(options.kills)
    if not killer.problems:
        killer.rest()
    seconds = time.monotonic() - began
    print(f"{seconds:.1f} s; {dict(killer.counts)}; {len(killer.known)} uploads")
    for problem in killer.problems:
        print(problem)
    return 1 if killer.problems else 0


if __name__ == "__main__":
    sys.exit(main())
