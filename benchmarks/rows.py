"""Fills the table of uploads: ``python -m benchmarks.rows COUNT``.

The rows are pending and of the last half day; BENCH_DIRECTORY says where, as for the
application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from uuid import UUID

from sqlalchemy import insert

from benchmarks.app import create_app
from flask_chunked.registration import registrations

#: Rows of one statement.
BATCH = 10_000


def batches(count: int) -> Iterator[list[dict[str, object]]]:
    """Rows in batches; their ids are scattered like real ones."""
    now = datetime.now(timezone.utc)
    for begin in range(0, count, BATCH):
        yield [
            _row(number, now - timedelta(seconds=43_200 * (1 - number / count)))
            for number in range(begin, min(begin + BATCH, count))
        ]


def _row(number: int, at: datetime) -> dict[str, object]:
    # A multiplicative step through all 128-bit numbers: no two are the same.
    scattered = number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128
    return {
        "id": UUID(int=scattered),
        "blueprint": "uploads",
        "user": "somebody",
        "filename": f"f{number}.bin",
        "offset": 0,
        "length": 4096,
        "status": "uploading",
        "created_at": at,
        "last_activity_at": at,
        "storage_key": f"rows/{number}",
        "dialect": "tus",
    }


def main() -> None:
    """Insert."""
    app = create_app()
    with app.app_context():
        here = registrations(app)["uploads"]
        for batch in batches(int(sys.argv[1])):
            with here.database.transaction() as connection:
                connection.execute(insert(here.model), batch)
        here.database.dispose()


if __name__ == "__main__":
    main()
