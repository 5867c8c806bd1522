"""Driver: uploads onto a disk that is really full, or into files that may not grow.

``python -m tests.faults.small_disk DIRECTORY storage|everything|limit ROUNDS``. For
the first two it starts itself anew where it may mount a small tmpfs.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.test import TestResponse

from tests.apps import dispose
from tests.exchange import PREFIX, put_form, put_raw

from .ground import Ground, content
from .invariants import Known, broken, broken_at_rest

#: Bytes of the small disk; a database fits on it.
DISK = 4 * 2**20
#: Bytes of an upload, at most.
LARGEST = 2**20

_MOUNTED = "--mounted"


def mount(place: Path) -> None:
    """Start anew in a namespace where a small disk is mounted at the place."""
    place.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"'
    command = [sys.executable, "-m", "tests.faults.small_disk", *sys.argv[1:]]
    arguments = ["unshare", "-rm", "sh", "-c", script, str(place), *command, _MOUNTED]
    os.execvp("unshare", arguments)


@contextmanager
def full_disk(place: Path, free: int) -> Iterator[None]:
    """Only so many bytes are free."""
    ballast = place / "ballast"
    status = os.statvfs(place)
    size = status.f_bavail * status.f_frsize - free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Round:
    """One upload that meets the end of the space, and goes on."""

    def __init__(self, ground: Ground, rng: random.Random, what: str) -> None:
        self._ground = ground
        self._rng = rng
        self._what = what
        self.statuses: Counter[int] = Counter()

    def play(self) -> list[str]:
        """What is broken; in an app context."""
        ground = self._ground
        length = self._rng.randint(200_000, LARGEST)
        upload = ground.create(length)
        known = Known(upload.id, content(upload.id, length), acked=0)
        with self._shortage(length):
            refused = self._send_until_refused(known)
        dispose(ground.app)
        found = [] if refused else ["nothing was refused: the test is void"]
        found += broken(ground, known)
        found += broken_at_rest(ground, [known])
        known.doomed = True
        ground.app.test_client().delete(f"{PREFIX}/{known.id}")
        return found

    @contextmanager
    def _shortage(self, length: int) -> Iterator[None]:
        room = self._rng.randint(0, length * 3 // 4)
        if self._what == "limit":
            with limited_files(max(room, 150_000)):
                yield
            return
        place = self._ground.directory
        place = place / "instance" if self._what == "storage" else place
        with full_disk(place, room):
            yield

    def _send_until_refused(self, known: Known) -> bool:
        client, total = self._ground.app.test_client(), len(known.content)
        url = f"{PREFIX}/{known.id}"
        while known.acked < total:
            start = known.acked
            stop = min(total, start + self._rng.randint(1, 300_000))
            send = self._rng.choice((put_raw, put_form))
            chunk = known.content[start:stop]
            answer = send(client, chunk, start=start, total=total, url=url)
            self.statuses[answer.status_code] += 1
            if answer.status_code != 200:
                return self._is_right(answer)
            assert answer.json is not None
            known.acked = int(answer.json["offset"])
        return False

    def _is_right(self, answer: TestResponse) -> bool:
        # A database on the full disk does not answer any more.
        allowed = (503, 507) if self._what == "everything" else (507,)
        assert answer.status_code in allowed, answer.text
        return "Retry-After" in answer.headers


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("what", choices=["storage", "everything", "limit"])
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(_MOUNTED, action="store_true")
    options = parser.parse_args()
    directory: Path = options.directory
    if options.what != "limit" and not options.mounted:
        mount(directory / "instance" if options.what == "storage" else directory)
    rng = random.Random(options.seed)
    wal = options.what != "limit"
    ground = Ground(directory, CHUNKED_UPLOAD_SQLITE_WAL=wal)
    problems: list[str] = []
    statuses: Counter[int] = Counter()
    for _ in range(options.rounds):
        with ground.open():
            one = Round(ground, rng, options.what)
            problems += one.play()
            statuses += one.statuses
    print(f"{options.what}: {options.rounds} rounds, answers {dict(statuses)}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
