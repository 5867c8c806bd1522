"""Driver: a process is killed once at every step of every operation.

``python -m tests.faults.kill_steps DIRECTORY [--only NAME]... [--sample N]`` ends with
1 and says what is broken, if anything is.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import make_url

from tests.postgres import as_setting, run_sql

from .gate_operations import ALL
from .ground import Ground, content, on_database
from .herd import Child, Report, in_child
from .invariants import Known, broken, broken_at_rest
from .operations import Operation
from .steps import Steps

#: The database file of a ground.
SQLITE = "app.db"
#: Steps that must have been taken since the bytes were written when the second one is.
ORDER = (
    ({"write file", "copy", "truncate"}, "sync file", "row advance"),
    ({"create file", "rename stage to file"}, "sync directory", "row advance"),
    ({"create file"}, "sync directory", "row create"),
    ({"link to finished"}, "sync directory", "row advance"),
    ({"write file"}, "sync file", "row create"),
    ({"rename to finished"}, "sync directory", "row complete"),
    ({"rename to finished"}, "sync directory", "row finish"),
    ({"unlink file"}, "sync directory", "row forget_removals"),
    ({"move"}, "sync directory", "row forget_file"),
)


class Grounds:
    """Grounds that nothing has happened on.

    :param database: URL; ``None``: SQLite.
    """

    def __init__(self, directory: Path, database: str | None) -> None:
        self._directory = directory
        self._database = database
        self._kept: list[tuple[Mapping[str, Any], Ground, bytes]] = []

    def new(self, config: Mapping[str, Any]) -> Ground:
        """An empty ground; what happened on the last one is gone."""
        for known, ground, database in self._kept:
            if known == config:
                shutil.rmtree(ground.directory)
                ground.directory.mkdir()
                if self._database is None:
                    (ground.directory / SQLITE).write_bytes(database)
                else:
                    ground.empty_tables()
                return ground
        ground = self._made(config)
        is_file = self._database is None
        database = (ground.directory / SQLITE).read_bytes() if is_file else b""
        self._kept.append((config, ground, database))
        return ground

    def _made(self, config: Mapping[str, Any]) -> Ground:
        name = f"ground-{len(self._kept)}"
        directory = self._directory / name
        directory.mkdir(parents=True)
        database = None if self._database is None else self._schema(name)
        ground = Ground(directory, **on_database(database), **config)
        ground.keeps_connections = database is not None
        return ground

    def _schema(self, name: str) -> str:
        """A ground's own corner of the database; a database for each takes longer."""
        url = make_url(str(self._database))
        run_sql(url, f'CREATE SCHEMA "{name}"')
        options = f"-csearch_path={name} -csynchronous_commit=off"
        return as_setting(url.update_query_dict({"options": options}))


class Rehearsal:
    """One operation, on new ground each time, taken to each of its steps.

    Children take the steps. This process recovers: it has never seen the uploads, but
    has what takes a new process longest, its compiled statements.
    """

    def __init__(self, name: str, grounds: Grounds) -> None:
        self.operation: Operation = ALL[name]
        self.problems: list[str] = []
        self._name = name
        self._grounds = grounds

    def warm(self) -> None:
        """Run and recover here once, so that this process has all that takes long."""
        ground = self._grounds.new(self.operation.config)
        with ground.open():
            known = self.operation.prepare(ground)
            with suppress(*self.operation.forgives):
                self.operation.run(ground, known)
        for problem in self._recover(ground, _told_of(known)):
            self._say(f"not disturbed: {problem}")

    def steps(self) -> list[str]:
        """The steps of a run that nothing disturbs, in order."""
        ground = self._grounds.new(self.operation.config)
        messages = in_child(lambda report: self._play(ground, None, report))
        names = [str(values[0]) for kind, *values in messages if kind == "step"]
        taken = {name.partition(":")[0] for name in names}
        for extra in sorted(taken - self.operation.steps):
            self._say(f"takes a step that is not listed: {extra}")
        for missing in sorted(self.operation.steps - taken):
            self._say(f"does not take the listed step: {missing}")
        self._check_order(names)
        return names

    def kill_at(self, index: int, step: str) -> None:
        """Kill at a step; then look, repeat, look, finish, look."""
        ground = self._grounds.new(self.operation.config)
        child = Child(lambda report: self._play(ground, index, report))
        messages = child.join()
        if child.status != -signal.SIGKILL:
            self._say(f"{step} (#{index}) was not hit: {child.status} {messages}")
            return
        told = [message for message in messages if message[0] == "known"]
        for problem in self._recover(ground, told):
            self._say(f"killed at {step} (#{index}): {problem}")

    def _play(self, ground: Ground, die_at: int | None, report: Report) -> None:
        ground.warm()
        with ground.app.app_context():
            known = self.operation.prepare(ground)
            for message in _told_of(known):
                report.send(*message)
            steps = Steps(die_at)
            steps.install(ground)
            with suppress(*self.operation.forgives):
                self.operation.run(ground, known)
            for name in steps.names:
                report.send("step", name)

    def _recover(self, ground: Ground, told: list[list[Any]]) -> list[str]:
        with ground.open():
            uploads = self._known(ground, told)
            first = next(iter(uploads.values()))
            ground.blueprint.destination = first.destination
            # In the very transactions that change what they count.
            found = ground.mismatches()
            for known in uploads.values():
                found += broken(ground, known)
            self._repeat(ground, first, found)
            found += ground.mismatches()
            for row in ground.here.repository.matching():
                data = ground.content_of(row)
                uploads.setdefault(row.id, Known(row.id, data, doomed=True))
            found += broken_at_rest(ground, uploads.values())
            ground.blueprint.destination = None
        return found

    def _known(self, ground: Ground, told: list[list[Any]]) -> dict[UUID, Known]:
        """What clients knew when the process died; the operation's own upload first."""
        uploads: dict[UUID, Known] = {}
        for _, name, length, acked, doomed, moved in told:
            upload_id = UUID(name)
            row = ground.engine.repository.get(upload_id)
            data = content(upload_id, length)
            if row is not None and row.concat is not None and not row.partial:
                data = ground.content_of(row)
            uploads[upload_id] = Known(
                upload_id,
                data,
                acked=acked,
                doomed=doomed or (self.operation.doomed and not uploads),
                destination=Path(moved) if moved else None,
                has_length=row is None or row.length is not None,
            )
        first, *others = uploads.values()
        first.others = others
        return uploads

    def _repeat(self, ground: Ground, known: Known, found: list[str]) -> None:
        try:
            self.operation.run(ground, known)
        except self.operation.forgives:
            pass
        except Exception as error:
            found.append(f"I5: the repeat fails: {error!r}")
        found += broken(ground, known)

    def _check_order(self, names: list[str]) -> None:
        """Bytes, sync, commit: a kill cannot show it, a power cut would."""
        for writes, sync, commit in ORDER:
            unsynced = None
            for name in names:
                step, _, moment = name.partition(": ")
                if step in writes and moment == "after":
                    unsynced = step
                elif step == sync and moment == "after":
                    unsynced = None
                elif step == commit and moment == "before" and unsynced is not None:
                    self._say(f"no {sync} between {unsynced} and {commit}")

    def _say(self, problem: str) -> None:
        self.problems.append(f"{self._name}: {problem}")


def _told_of(known: Known) -> list[list[Any]]:
    """What clients know of the operation's own upload, and then of the others."""
    moved = "" if known.destination is None else str(known.destination)
    return [
        ["known", str(one.id), len(one.content), one.acked, one.doomed, moved]
        for one in (known, *known.others)
    ]


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--only", action="append", choices=list(ALL), help="may be repeated"
    )
    parser.add_argument("--sample", type=int, help="steps of each operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", help="URL; default: a SQLite file for each kill")
    options = parser.parse_args()
    # Deliveries that fail on purpose.
    logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
    chosen = options.only or list(ALL)
    rng = random.Random(options.seed)
    problems: list[str] = []
    kills, began = 0, time.monotonic()
    grounds = Grounds(options.directory, options.database)
    for name in chosen:
        rehearsal = Rehearsal(name, grounds)
        rehearsal.warm()
        steps = list(enumerate(rehearsal.steps()))
        wanted = steps
        if options.sample is not None:
            wanted = rng.sample(steps, min(options.sample, len(steps)))
        for index, step in wanted:
            rehearsal.kill_at(index, step)
        kills += len(wanted)
        problems += rehearsal.problems
        print(f"{name}: killed at {len(wanted)} of {len(steps)} steps")
    print(f"{kills} kills, {time.monotonic() - began:.1f} s, {len(problems)} problems")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
