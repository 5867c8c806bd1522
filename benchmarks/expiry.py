"""Times ``delete-expired``: ``python -m benchmarks.expiry [--against CHECKOUT]``.

Each turn fills a new SQLite file and a new directory with expired uploads and their
files, and removes them with the command. With ``--against``, another checkout of the
project takes every other turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

HERE = Path(__file__).parents[1]
#: Days of inactivity; the default of ``CHUNKED_UPLOAD_EXPIRATION_DELTA`` is one.
AGE = timedelta(days=3)
#: Rows of one statement.
BATCH = 5_000


def fill(count: int) -> None:
    """Insert expired uploads and write their files, where the app keeps them."""
    from sqlalchemy import insert

    from benchmarks.app import create_app
    from flask_chunked.registration import registrations

    app = create_app()
    then = datetime.now(timezone.utc) - AGE
    with app.app_context():
        here = registrations(app)["uploads"]
        root = Path(here.storage.identity.removeprefix("local:"))
        rows = []
        for number in range(count):
            upload_id = uuid4()
            key = here.storage.new_key(upload_id, then)
            path = root / f"{key}{here.settings.incomplete_ext}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 16)
            rows.append(
                {
                    "id": upload_id,
                    "blueprint": "uploads",
                    "user": "ada",
                    "filename": f"f{number}.bin",
                    "offset": 16,
                    "length": 4096,
                    "status": "uploading",
                    "created_at": then,
                    "last_activity_at": then,
                    "storage_key": key,
                    "dialect": "tus",
                }
            )
        for begin in range(0, count, BATCH):
            with here.database.transaction() as connection:
                connection.execute(insert(here.model), rows[begin : begin + BATCH])
        here.database.dispose()


def environment(checkout: Path, directory: Path) -> dict[str, str]:
    """Of a process that uses a checkout's package and keeps its data in a directory."""
    return {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "BENCH_DIRECTORY": str(directory),
    }


def turn(checkout: Path, count: int, place: Path | None) -> float:
    """Fill, remove, and return the seconds of the removal."""
    with tempfile.TemporaryDirectory(dir=place, prefix="expiry-") as name:
        known = environment(checkout, Path(name))
        filling = [sys.executable, str(Path(__file__)), "--fill", str(count)]
        subprocess.run(filling, env=known, cwd=checkout, check=True)
        flask = [sys.executable, "-m", "flask", "--app", "benchmarks.app:create_app"]
        began = time.perf_counter()
        done = subprocess.run(
            [*flask, "chunked-uploads", "delete-expired"],
            env=known,
            cwd=checkout,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
        last = done.stdout.splitlines()[-1]
        if not last.startswith(f"{count} expired"):
            raise RuntimeError(f"{checkout} removed something else: {last}")
        if list(Path(name).rglob("*.part")):
            raise RuntimeError(f"{checkout} left files")
        return seconds


def main() -> None:
    """Measure in turn, and print seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="expired uploads")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill is not None:
        fill(options.fill)
        return
    checkouts = [HERE] if options.against is None else [HERE, options.against.resolve()]
    seconds: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
    for _ in range(options.repeat):
        for checkout in checkouts:
            seconds[checkout].append(turn(checkout, options.count, options.directory))
            print(f"{checkout}: {seconds[checkout][-1]:.2f} s", flush=True)
    middle = {one: statistics.median(taken) for one, taken in seconds.items()}
    for checkout, taken in middle.items():
        rate = options.count / taken
        print(f"{checkout}: median {taken:.2f} s, {rate:,.0f} uploads/s")
    if options.against is not None:
        print(f"{middle[checkouts[1]] / middle[HERE]:.2f} times as fast")


if __name__ == "__main__":
    main()
