"""Driver: the power goes under the whole stack, SQLite included, again and again.

``python -m tests.faults.blackout DIRECTORY --cuts N --seed S`` ends with 1 and says
what is broken, if anything is. An app uploads on a file system that knows what is on
the medium (:mod:`.fuse_disk`). After its process was killed, moments of its life are
chosen; for each, some of what was not synced then is put beside all that was, on a real
disk, and the app is started on that.

With ``--not-durable`` nothing is synced; the figure is how many cuts lost something.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from .fuse_disk import CHECKPOINT, Record
from .ground import (
    DELIVERIES,
    Ground,
    append_form,
    append_staged,
    append_streamed,
    content,
)
from .herd import Child, Report
from .invariants import Known, broken_at_rest
from .power import Data, Entry, Event, World, any_subset, unsynced, world_after

#: What the client was told, line by line, is written here. It and the app's record of
#: deliveries belong to others, who have power.
TOLD = "told"
#: Cuts that are made of one life.
CUTS = 10
#: Seconds of a life.
LIFE = 0.4
#: Bytes of an upload and of a chunk, at most.
LARGEST, LARGEST_CHUNK = 20_000, 6_000


@contextmanager
def mounted(directory: Path, record: Path) -> Iterator[Path]:
    """The file system, for the length of the block; its record is there afterwards."""
    place = directory / "mount"
    place.mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.fuse_disk"]
    server = subprocess.Popen([*command, str(place), str(record)])
    try:
        deadline = time.monotonic() + 15
        while not os.path.ismount(place):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the file system cannot be mounted")
            time.sleep(0.02)
        yield place
    finally:
        for _ in range(100):
            done = subprocess.run(
                ["fusermount3", "-u", str(place)], check=False, capture_output=True
            )
            if not done.returncode:
                break
            time.sleep(0.05)
        server.wait(30)


class Client:
    """Uploads without end, and writes down what it was told."""

    def __init__(self, ground: Ground, told: int, seed: int) -> None:
        self._ground = ground
        self._told = told
        self._random = random.Random(seed)

    def run(self, report: Report) -> None:
        """Until the process is killed."""
        with self._ground.app.app_context():
            report.send("ready")
            while True:
                self._upload()

    def _tell(self, *fact: object) -> None:
        os.write(self._told, json.dumps(fact).encode() + b"\n")

    def _upload(self) -> None:
        engine = self._ground.engine
        length = self._random.randint(1, LARGEST)
        upload = self._ground.create(length)
        self._tell("acked", str(upload.id), length, 0)
        data = content(upload.id, length)
        while upload.offset < length:
            start = upload.offset
            stop = min(length, start + self._random.randint(1, LARGEST_CHUNK))
            chunk = data[start:stop]
            way = self._random.random()
            if way < 0.25:
                upload = append_staged(engine, upload, start, chunk)
            elif way < 0.5:
                upload = append_form(engine, upload, start, chunk)
            else:
                upload = append_streamed(engine, upload, start, [chunk])
            self._tell("acked", str(upload.id), length, stop)
        if self._random.random() < 0.7:
            engine.complete.request(upload, None)
            self._tell("completed", str(upload.id), length, length)
            if self._random.random() < 0.3:
                self._tell("ending", str(upload.id), length, length)
                engine.remove.terminate(upload)


def live(directory: Path, seed: int, *, durable: bool) -> Record:
    """One life of the app on the file system; what was done to it."""
    record = directory / "record"
    with mounted(directory, record) as place:
        ground = Ground(place, CHUNKED_UPLOAD_DURABLE=durable)
        # Everything so far is on the medium.
        (place / CHECKPOINT).touch()
        told = os.open(place / TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        child = Child(lambda report: Client(ground, told, seed).run(report))
        os.close(told)
        time.sleep(LIFE)
        os.kill(child.pid, signal.SIGKILL)
        messages = child.join()
        if [message[0] for message in messages] != ["ready"]:
            raise RuntimeError(f"the client did not live: {messages}")
    found: Record = pickle.loads(record.read_bytes())
    return found


class Blackout:
    """What is left at moments of a life."""

    def __init__(self, record: Record, *, durable: bool) -> None:
        self._record = record
        self._durable = durable

    def strike(self, directory: Path, chance: random.Random) -> list[str]:
        """Cut the power at some moment; what does not hold afterwards."""
        moment = chance.randrange(len(self._record.events) + 1)
        events = self._record.events[:moment]
        known = self._known(events)
        world = self._world(events, chance)
        for name in (TOLD, DELIVERIES, CHECKPOINT):
            world.directories[0].pop(name, None)
        world.put(directory)
        (directory / DELIVERIES).write_bytes(_written(events, DELIVERIES))
        try:
            return self._go_on(directory, known)
        # A database that cannot be opened is as bad as bytes that are gone.
        except Exception as error:
            return [f"I5: the app does not start: {error!r}"]

    def _go_on(self, directory: Path, known: dict[UUID, Known]) -> list[str]:
        ground = Ground(directory, CHUNKED_UPLOAD_DURABLE=self._durable)
        with ground.open():
            for row in ground.here.repository.matching():
                data = content(row.id, row.length or 0)
                # Nobody was told of it yet.
                known.setdefault(row.id, Known(row.id, data))
            return broken_at_rest(ground, known.values())

    def _world(self, events: list[Event], chance: random.Random) -> World:
        pending = unsynced(events)
        survivors = any_subset(events, pending, chance)
        return world_after(self._record.start, events, pending, survivors)

    def _known(self, events: list[Event]) -> dict[UUID, Known]:
        found: dict[UUID, Known] = {}
        for line in _written(events, TOLD).splitlines():
            fact, name, length, offset = json.loads(line)
            upload_id = UUID(name)
            known = found.setdefault(
                upload_id, Known(upload_id, content(upload_id, length))
            )
            known.acked = offset
            known.completed = known.completed or fact == "completed"
            known.doomed = known.doomed or fact == "ending"
        return found


def _written(events: list[Event], name: str) -> bytes:
    """What was appended to a file by then, on the medium or not."""
    nodes = {
        event.node
        for event in events
        if isinstance(event, Entry) and event.name == name
    }
    return b"".join(
        event.content
        for event in events
        if isinstance(event, Data) and event.node in nodes
    )


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--not-durable", action="store_true")
    options: Any = parser.parse_args()
    logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
    chance = random.Random(options.seed)
    print(f"blackout: seed {options.seed}, {options.cuts} cuts", flush=True)
    began = time.monotonic()
    made, bad = 0, []
    while made < options.cuts:
        place = options.directory / f"life-{made}"
        durable = not options.not_durable
        record = live(place, chance.getrandbits(32), durable=durable)
        blackout = Blackout(record, durable=durable)
        for number in range(min(CUTS, options.cuts - made)):
            found = blackout.strike(place / f"cut-{number}", chance)
            made += 1
            if found:
                bad.append(f"cut {made}: {found[0]} ({len(found)} problems)")
        print(f"a life of {len(record.events)} changes", flush=True)
    print(f"{made} cuts, {time.monotonic() - began:.1f} s, {len(bad)} lost something")
    print("\n".join(bad[:5]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
