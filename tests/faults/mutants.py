"""Twelve ways to break the promise, each found by a test.

``python -m tests.faults.mutants [NAME...]`` breaks a copy of the package, one way after
the other, runs the tests that must notice, and prints which one did. It ends with 1
where a mutant survives, where its place in the code is no longer there, or where the
tests fail without it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAST = "not slow and not oracle and not browser"
POWER = "tests/faults/test_power_loss.py::test_nothing_committed_is_lost[sample]"
RACES = "tests/dialects/test_defects_of_drf_chunked_upload_races.py"
CONCURRENCY = "tests/dialects/test_tus_concurrency.py"


@dataclass(frozen=True)
class Change:
    """Text of one module that becomes another; it must be there exactly once."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One way to break the code, and the tests that must notice."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "no fsync",
        (Change("storage/local/files.py", "        os.fdatasync(fd)", "        pass"),),
        (POWER,),
    ),
    Mutant(
        "no compare-and-set",
        (
            Change(
                "database/statements.py",
                ".where(its_fence, its_offset, self._is_open, within)",
                ".where(self._is_open, within)",
            ),
        ),
        (CONCURRENCY,),
    ),
    Mutant(
        "no fence",
        (
            Change(
                "database/statements.py",
                "statement.values(fence=c.fence + 1)",
                "statement.values(fence=c.fence)",
            ),
        ),
        (RACES, CONCURRENCY),
    ),
    Mutant(
        "commit first",
        (
            Change(
                "engine/writer.py",
                "        receipt = self._appender.flush()\n"
                "        self._digest_thread.join()\n"
                "        state = self.upload.storage_state"
                " if receipt.state is None else receipt.state\n",
                "        receipt = type('Nothing', (), {'parts': ()})\n"
                "        self._digest_thread.join()\n"
                "        state = self.upload.storage_state\n",
            ),
            Change(
                "engine/writer.py",
                "            self._appender.rollback()\n"
                "            raise self._superseded()\n",
                "            self._appender.rollback()\n"
                "            raise self._superseded()\n"
                "        self._appender.flush()\n",
            ),
        ),
        (POWER,),
    ),
    Mutant(
        "end > total",
        (
            Change(
                "dialects/content_range/chunks.py",
                "if chunk.stop > chunk.length:",
                "if chunk.stop > chunk.length + 1:",
            ),
        ),
        ("tests/dialects/test_content_range_errors.py",),
    ),
    Mutant(
        "cut by a stale offset",
        (
            Change(
                "engine/writer.py",
                "if not self._repository.holds(mine.id, mine.fence, mine.offset):",
                "if not mine.id:",
            ),
        ),
        (RACES, "tests/engine/test_stream.py", "tests/engine/test_append.py"),
    ),
    Mutant(
        "end of file trusted",
        (
            Change(
                "request/body.py",
                "        elif not count:\n"
                "            self._failure = BodyInterrupted\n",
                "        elif not count:\n            self.ended = True\n",
            ),
        ),
        ("tests/request/test_body.py",),
    ),
    Mutant(
        "short write ignored",
        (
            Change(
                "storage/local/files.py",
                "        view = view[written:]\n        offset += written\n",
                "        break\n",
            ),
        ),
        ("tests/storage/local/test_files.py", "tests/faults/test_io_errors.py"),
    ),
    Mutant(
        "hook before commit",
        (
            Change(
                "engine/complete.py",
                "        done = self._repository.complete(begun.id,",
                "        if not record.delivered:\n"
                "            self._gate.deliver(begun)\n"
                "        done = self._repository.complete(begun.id,",
            ),
        ),
        ("tests/engine/test_complete.py", "tests/test_policy_completion.py"),
    ),
    Mutant(
        "cleanup by creation",
        (
            Change(
                "database/expiry_conditions.py",
                "idle = c.last_activity_at <= idle_since",
                "idle = c.created_at <= idle_since",
            ),
        ),
        ("tests/test_maintenance.py",),
    ),
    Mutant(
        "missing owner filter",
        (
            Change(
                "registration.py",
                "        return query.where(mine)\n",
                "        return query\n",
            ),
        ),
        ("tests/test_owners.py",),
    ),
    Mutant(
        "rename without directory fsync",
        (
            Change(
                "storage/local/storage.py",
                "        if self.settings.durable:\n"
                "            sync_directory(file.directory)\n",
                "",
            ),
        ),
        (POWER,),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    :param killer: the test that noticed; ``None``: none did.
    """

    mutant: Mutant
    killer: str | None
    seconds: float


class Copy:
    """The package and its tests in a directory of their own, to be broken.

    :param marks: which tests are run, as pytest's ``-m`` has it.
    """

    def __init__(self, directory: Path, marks: str = FAST) -> None:
        self._directory = directory
        self._marks = marks
        ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache")
        for name in ("flask_chunked", "tests", "examples"):
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", directory)
        self._environment = {**os.environ, "PYTHONPATH": str(directory)}
        where = self._run("-c", "import flask_chunked; print(flask_chunked.__file__)")
        if not where.startswith(str(directory)):
            raise RuntimeError(f"the tests would import {where}")

    def judge(self, mutant: Mutant) -> Verdict:
        """Break, run the tests, mend.

        :raises LookupError: a place that is to be changed is not there once.
        """
        began = time.monotonic()
        saved = {change.module: self._read(change.module) for change in mutant.changes}
        try:
            for change in mutant.changes:
                text = self._read(change.module)
                if text.count(change.old) != 1:
                    raise LookupError(f"{mutant.name}: {change.module} has changed")
                self._write(change.module, text.replace(change.old, change.new))
            killer = self.first_failure(mutant.tests)
        finally:
            for module, text in saved.items():
                self._write(module, text)
        return Verdict(mutant, killer, time.monotonic() - began)

    def first_failure(self, tests: tuple[str, ...]) -> str | None:
        """The test that fails first; ``None``: all pass."""
        said = self._run(
            *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-m", self._marks),
            *tests,
        )
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
        if found is None and " passed" not in said:
            raise RuntimeError(f"the tests did not run:\n{said[-3000:]}")
        return None if found is None else found[1]

    def _run(self, *arguments: str) -> str:
        # Without files of byte code: two versions of a module may have one second.
        done = subprocess.run(
            [sys.executable, "-B", *arguments],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        return done.stdout

    def _read(self, module: str) -> str:
        return (self._directory / "flask_chunked" / module).read_text()

    def _write(self, module: str, text: str) -> None:
        (self._directory / "flask_chunked" / module).write_text(text)


def command(mutants: tuple[Mutant, ...], text: str | None, marks: str = FAST) -> int:
    """Judge those that the command line names, or all, and print what killed them."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name them and stop")
    parser.add_argument(
        "--healthy", action="store_true", help="run their tests unbroken and stop"
    )
    parser.add_argument(
        "--believe", action="store_true", help="that their tests pass unbroken"
    )
    options = parser.parse_args()
    known = {mutant.name: mutant for mutant in mutants}
    if options.list:
        print("\n".join(known))
        return 0
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in options.names] or list(mutants)
    with tempfile.TemporaryDirectory() as name:
        copy = Copy(Path(name), marks)
        if not options.believe:
            healthy = {test for mutant in chosen for test in mutant.tests}
            failure = copy.first_failure(tuple(sorted(healthy)))
            if failure is not None:
                print(f"fails without any mutant: {failure}")
                return 1
        if options.healthy:
            return 0
        verdicts = []
        for mutant in chosen:
            verdict = copy.judge(mutant)
            verdicts.append(verdict)
            killed = verdict.killer or "SURVIVES"
            print(f"{mutant.name:32} {verdict.seconds:5.1f} s  {killed}", flush=True)
    return 1 if any(verdict.killer is None for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(command(MUTANTS, __doc__))
