"""Driver: the power goes at every moment of an upload's life, on paper and on disk.

``python -m tests.faults.power_loss DIRECTORY --states N --seed S`` ends with 1 and says
what is broken, if anything is. Each operation is recorded once; then N states are made
that a power cut may leave, all of them where at most ten changes are not synced (in a
sample: five). The database is the barrier: what it has committed is there.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from uuid import UUID

from flask_chunked.engine.records import ExpectedDigest, NewUpload, Upload
from flask_chunked.engine.states import Status

from .ground import Ground, append_form, append_staged, append_streamed, content
from .invariants import Known, broken_at_rest
from .operations import OPERATIONS, UNCOMMITTED
from .power import (
    Commit,
    Event,
    Recorder,
    Survivors,
    World,
    any_subset,
    unsynced,
    world_after,
)
from .steps import WRITES

#: With so many changes that are not synced, all their subsets are tried.
EXHAUSTIVE = 10
#: The same for a sample, and its states of which one is made real.
EXHAUSTIVE_SAMPLE, REAL_SAMPLE = 5, 250
#: Every so many states one is made real, and an app goes on from there.
REAL = 1_000
#: Uploads of the long scenario, and what is done to them.
UPLOADS, ACTS = 3, 40
#: Problems that are told before the driver gives up.
ENOUGH = 5
_GIVEN_UP = (Status.EXPIRED,)


@dataclass
class Recording:
    """One scenario: what it did to files, and what the database said after each commit.

    :ivar doomed: it ends its upload.
    :ivar rows: all uploads after each commit.
    :ivar deliveries: the app's own record of deliveries then.
    :ivar contents: what each upload will be.
    """

    name: str
    ground: Ground
    destination: Path | None = None
    doomed: bool = False
    start: World = field(default_factory=World)
    events: list[Event] = field(default_factory=list)
    rows: list[list[Upload]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    contents: dict[UUID, bytes] = field(default_factory=dict)

    def content_of(self, row: Upload) -> bytes:
        """All bytes that an upload will have."""
        known = self.contents.get(row.id)
        if known is None:
            known = content(row.id, row.length or 0)
            if row.length is not None:
                self.contents[row.id] = known
        return known

    @cached_property
    def root(self) -> tuple[str, ...]:
        """Directories that the storage's files are in, below the ground's own."""
        root = Path(self.ground.here.storage.identity.removeprefix("local:"))
        return root.relative_to(self.ground.directory).parts


def record(recorder: Recorder, recording: Recording, act: Callable[[], None]) -> None:
    """Run a scenario and fill in what it did."""
    _watch_rows(recorder, recording)
    with recorder.recording(recording.ground.directory):
        act()
    recording.start, recording.events = recorder.start, recorder.events


def _watch_rows(recorder: Recorder, recording: Recording) -> None:
    repository = recording.ground.here.repository

    def watched(method: str) -> None:
        real = getattr(repository, method)

        def call(*args: object, **kwargs: object) -> object:
            result = real(*args, **kwargs)
            _note(recording)
            recorder.commit(len(recording.rows) - 1)
            return result

        setattr(repository, method, call)

    _note(recording)
    for method in WRITES:
        watched(method)


def _note(recording: Recording) -> None:
    """Keep what database and app say now."""
    ground = recording.ground
    index = len(recording.rows)
    recording.rows.append(list(ground.here.repository.matching()))
    log = ground.blueprint.log
    recording.deliveries.append(log.read_text() if log.exists() else "")
    with (
        sqlite3.connect(ground.directory / "app.db") as source,
        sqlite3.connect(_database(recording, index)) as copy,
    ):
        # No power cut meets the copy.
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy)
    source.close()
    copy.close()


def _database(recording: Recording, index: int) -> Path:
    return recording.ground.directory.parent / f"{recording.name}-{index}.db"


# -- states ----------------------------------------------------------------------------


class Cut:
    """The power goes before the event at ``moment``."""

    def __init__(self, recording: Recording, moment: int) -> None:
        self.recording = recording
        self._events = recording.events[:moment]
        self.pending = unsynced(self._events)
        self._first = self.pending[0] if self.pending else moment
        commits = [one.index for one in self._events if isinstance(one, Commit)]
        self.index = commits[-1] if commits else 0

    @property
    def subsets(self) -> int:
        """How many there are of what is not synced."""
        return 1 << len(self.pending)

    def all_subsets(self) -> Iterator[Survivors]:
        """Each change arrives, or not."""
        for chosen in itertools.product((False, True), repeat=len(self.pending)):
            yield {i: None for i, on in zip(self.pending, chosen, strict=True) if on}

    def any_subset(self, chance: random.Random) -> Survivors:
        """Some changes arrive, and of writes some sectors."""
        return any_subset(self._events, self.pending, chance)

    def world(self, survivors: Survivors) -> World:
        """The medium, where these have arrived beside all that was synced."""
        return world_after(
            self._synced, self._events, self.pending, survivors, self._first
        )

    @cached_property
    def _synced(self) -> World:
        """The medium after the events that come before all that is not synced."""
        return world_after(self.recording.start, self._events[: self._first], [], {})

    def problems(self, world: World) -> list[str]:
        """What rows say and files do not; I1 to I3."""
        found: list[str] = []
        for row in self.recording.rows[self.index]:
            if row.status not in _GIVEN_UP and row.offset:
                found += self._problem(world, row)
        return found

    def _problem(self, world: World, row: Upload) -> Iterator[str]:
        wanted = self.recording.content_of(row)[: row.offset]
        stored = self._stored(world, row)
        if stored is None:
            yield f"I2: upload {row.id} ({row.status.value}) has lost its file"
        elif stored[: row.offset] != wanted:
            yield f"I2: of upload {row.id} {row.offset} bytes are committed, not stored"
        elif row.is_complete and len(stored) != row.offset:
            yield f"I3: upload {row.id} is complete and has {len(stored)} bytes"

    def _stored(self, world: World, row: Upload) -> bytes | None:
        if row.storage_key is None:
            destination = self.recording.destination
            return None if destination is None else world.read((destination.name,))
        settings = self.recording.ground.here.settings
        *directories, name = row.storage_key.split("/")
        place = (*self.recording.root, *directories)
        finished = world.read((*place, name + settings.complete_ext))
        moved = self.recording.destination
        if finished is None and row.is_complete and moved is not None:
            # It is being moved away just now.
            finished = world.read((moved.name,))
        if finished is not None or row.is_complete:
            return finished
        return world.read((*place, name + settings.incomplete_ext))


def survive(cut: Cut, world: World, directory: Path) -> list[str]:
    """Make the state real, start the app on it, and let clients go on."""
    recording = cut.recording
    directory.mkdir(parents=True)
    (directory / "app.db").write_bytes(_database(recording, cut.index).read_bytes())
    (directory / "deliveries").write_text(recording.deliveries[cut.index])
    world.put(directory)
    ground = Ground(directory)
    destination = None
    if recording.destination is not None:
        destination = directory / recording.destination.name
        ground.blueprint.destination = destination
    uploads = []
    for row in recording.rows[cut.index]:
        if row.partial or row.concat is not None:
            # Material for a final one, and what is made of it: no event, no client.
            continue
        doomed = recording.doomed or row.status in _GIVEN_UP
        uploads.append(
            Known(
                row.id,
                recording.content_of(row),
                acked=row.offset,
                completed=row.is_complete,
                doomed=doomed,
                destination=destination,
            )
        )
    with ground.open():
        return broken_at_rest(ground, uploads)


# -- scenarios -------------------------------------------------------------------------


def life(ground: Ground, chance: random.Random) -> None:
    """Pieces of all kinds, uncommitted bytes, completion, concatenation, an end."""
    engine = ground.engine
    uploads = [_partial(ground, chance.randint(1, 6000)) for _ in range(UPLOADS)]
    for _ in range(ACTS):
        at = chance.randrange(UPLOADS)
        row = engine.repository.get(uploads[at].id)
        assert row is not None and row.length is not None
        if row.offset == row.length:
            continue
        if chance.random() < 0.3:
            _leave_tail(ground, row)
        start = row.offset
        stop = min(row.length, start + chance.randint(1, 1500))
        chunk = content(row.id, row.length)[start:stop]
        way = chance.random()
        if way < 0.25:
            append_staged(engine, row, start, chunk)
        elif way < 0.5:
            append_form(engine, row, start, chunk, at_once=way < 0.37)
        else:
            middle = len(chunk) // 2
            append_streamed(engine, row, start, [chunk[:middle], None, chunk[middle:]])
    for upload in uploads:
        row = engine.repository.get(upload.id)
        assert row is not None and row.length is not None
        if row.offset < row.length:
            rest = content(row.id, row.length)[row.offset :]
            append_streamed(engine, row, row.offset, [rest])
        engine.complete.request(row, None)


def assembly(ground: Ground, contents: dict[UUID, bytes]) -> None:
    """A final upload of three partial ones, which then go."""
    engine = ground.engine
    parts = [_partial(ground, length) for length in (700, 1, 2500)]
    for part in parts:
        assert part.length is not None
        append_staged(engine, part, 0, content(part.id, part.length))
        engine.complete.request(part, None)
    whole = b"".join(content(part.id, part.length or 0) for part in parts)
    final = ground.create_final([part.id for part in parts])
    contents[final.id] = whole
    engine.concatenate.assemble(final, engine.concatenate.members(final))
    for part in parts:
        row = engine.repository.get(part.id)
        assert row is not None
        engine.remove.terminate(row)


def whole_file(ground: Ground) -> None:
    """A small file in one go, with its checksum."""
    upload = ground.create(1300)
    data = content(upload.id, 1300)
    append_staged(ground.engine, upload, 0, data)
    row = ground.engine.repository.get(upload.id)
    assert row is not None
    ground.engine.complete.request(
        row, ExpectedDigest("md5", hashlib.md5(data).hexdigest())
    )


def _partial(ground: Ground, length: int) -> Upload:
    new = NewUpload(
        user=None,
        filename="part",
        length=length,
        dialect="tus",
        partial=True,
        concat="partial",
    )
    return ground.engine.create.upload(new)


def _leave_tail(ground: Ground, row: Upload) -> None:
    """As a request that was killed after it had written, and before it committed."""
    assert row.blob is not None
    with ground.engine.storage.appender(row.blob) as appender, appender.exclusive():
        appender.write(UNCOMMITTED)


def recordings(
    recorder: Recorder, directory: Path, chance: random.Random, *, durable: bool
) -> Iterator[Recording]:
    """Every operation, and three scenarios, each on ground of its own."""
    for name in (*OPERATIONS, "life", "assembly", "whole file"):
        place = directory / name.replace(" ", "-")
        place.mkdir(parents=True)
        recording = Recording(place.name, Ground(place, CHUNKED_UPLOAD_DURABLE=durable))
        with recording.ground.open():
            record(recorder, recording, _scenario(name, recording, chance))
        yield recording


def _scenario(
    name: str, recording: Recording, chance: random.Random
) -> Callable[[], None]:
    ground = recording.ground
    if name == "life":
        return partial(life, ground, chance)
    if name == "assembly":
        return partial(assembly, ground, recording.contents)
    if name == "whole file":
        return partial(whole_file, ground)
    operation = OPERATIONS[name]
    known = operation.prepare(ground)
    recording.destination = known.destination
    recording.doomed = operation.doomed

    def run() -> None:
        with suppress(*operation.forgives):
            operation.run(ground, known)

    return run


# -- the driver ------------------------------------------------------------------------


class Outage:
    """Goes through states, and keeps count."""

    def __init__(self, directory: Path, real: int) -> None:
        self._directory = directory
        self._one_in = real
        self.states = self.real = 0
        self.problems: list[str] = []

    def strike(self, cut: Cut, survivors: Survivors) -> None:
        """One state."""
        world = cut.world(survivors)
        self.states += 1
        found = cut.problems(world)
        if not found and self.states % self._one_in == 0:
            self.real += 1
            found = survive(cut, world, self._directory / f"real-{self.real}")
        name = cut.recording.name
        self.problems += [f"{name}, {sorted(survivors)}: {one}" for one in found]


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--not-durable", action="store_true")
    parser.add_argument(
        "--sample", action="store_true", help="fewer subsets, more of them made real"
    )
    options = parser.parse_args()
    logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
    chance = random.Random(options.seed)
    print(f"power_loss: seed {options.seed}, {options.states} states", flush=True)
    began = time.monotonic()
    found = recordings(
        Recorder(), options.directory, chance, durable=not options.not_durable
    )
    cuts = [
        Cut(recording, moment)
        for recording in found
        for moment in range(len(recording.events) + 1)
    ]
    outage = Outage(options.directory, REAL_SAMPLE if options.sample else REAL)
    few = EXHAUSTIVE_SAMPLE if options.sample else EXHAUSTIVE
    for cut in cuts:
        if len(cut.pending) <= few:
            for survivors in cut.all_subsets():
                outage.strike(cut, survivors)
    exhausted = outage.states
    while outage.states < options.states and len(outage.problems) < ENOUGH:
        cut = chance.choice(cuts)
        outage.strike(cut, cut.any_subset(chance))
    print(
        f"{len(cuts)} moments, {outage.states} states ({exhausted} exhaustively), "
        f"{outage.real} made real, {time.monotonic() - began:.1f} s, "
        f"{len(outage.problems)} problems"
    )
    for problem in outage.problems[:ENOUGH]:
        print(problem)
    return 1 if outage.problems else 0


if __name__ == "__main__":
    sys.exit(main())
