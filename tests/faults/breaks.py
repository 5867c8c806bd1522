"""One deliberate break for each row of the fault suite, and the test that notices.

``python -m tests.faults.breaks [NAME...]`` breaks a copy of the package, one way after
the other, runs the row's own test at the figures of a change, and prints what failed.
Beside the twelve mutants, which the fast tests find, this shows of every row that it is
able to fail. It takes half an hour.
"""

from __future__ import annotations

import sys

from .mutants import Change, Mutant, command

#: Rows that a machine without their server skips count as surviving.
ALL = "slow or not slow"

_NO_SYNC = Change("storage/local/files.py", "        os.fdatasync(fd)", "        pass")
_ANY_WRITER = (
    Change(
        "engine/writer.py",
        "if not self._repository.holds(mine.id, mine.fence, mine.offset):",
        "if not mine.id:",
    ),
    Change(
        "database/statements.py",
        ".where(its_fence, its_offset, self._is_open, within)",
        ".where(self._is_open, within)",
    ),
)
_TOO_FAR = Change(
    "engine/writer.py",
    "            offset=position,\n            start",
    "            offset=min(position + 1000, self.upload.length or position),\n"
    "            start",
)
_NO_ANSWER_FOR_AWAY = Change(
    "database/transactions.py",
    "if lost or (isinstance(error, DBAPIError) and error.connection_invalidated):",
    "if lost is None:",
)
_AWAY = "tests/faults/test_database_away.py"
_DUELS_ON_S3 = "tests/faults/test_duels.py::test_one_client_wins_each_byte_on_s3"
_S3_FAULTS = "tests/faults/test_s3_faults.py"
#: A tail overwrites the one that the row names.
_SAME_TAIL = Change(
    "storage/s3/writer.py",
    "self._layout.tail_name(self._key, uuid4().hex)",
    'self._layout.tail_name(self._key, "0" * 32)',
)
_NEVER_ABORTED = Change(
    "storage/s3/bucket.py",
    '            self._call("abort_multipart_upload", Key=key, UploadId=upload)',
    "            return",
)
#: Two writers send under one number.
_NUMBER_NOT_TAKEN = Change(
    "storage/s3/writer.py",
    "            if self._save is not None:\n                self._save",
    "            if self._save is not None and begun is not None:\n"
    "                self._save",
)
_CORE = "tests/faults/test_kill_core.py"
_IO = "tests/faults/test_io_errors.py"
_CROWDS = "tests/servers/test_crowds.py"


def _row(name: str, test: str, *changes: Change) -> Mutant:
    return Mutant(name, changes, (test,))


BREAKS = (
    _row("kill -9, engine", _CORE, *_ANY_WRITER),
    _row(
        "kill -9, HTTP",
        "tests/servers/test_kill_http.py",
        _TOO_FAR,
    ),
    _row("kill at every step", "tests/faults/test_kill_steps.py", _NO_SYNC),
    _row(
        "failing calls",
        _IO,
        Change(
            "storage/local/files.py",
            "        view = view[written:]\n        offset += written\n",
            "        break\n",
        ),
    ),
    _row("power loss", "tests/faults/test_power_loss.py", _NO_SYNC),
    _row(
        "power loss, whole stack",
        "tests/faults/test_blackout.py::test_nothing_acknowledged_is_lost",
        _NO_SYNC,
    ),
    _row(
        "disk full",
        f"{_IO}::test_full_disk_refuses_and_goes_on_when_there_is_space",
        Change(
            "storage/os_errors.py", "if error.errno in FULL_DISK", "if error is None"
        ),
    ),
    _row("duels", "tests/faults/test_duels.py", *_ANY_WRITER),
    _row("S3: kill -9", f"{_CORE}::test_killed_writers_lose_nothing_on_s3", _SAME_TAIL),
    _row("S3: duels", f"{_DUELS_ON_S3}[below-a-part]", *_ANY_WRITER),
    _row("S3: duels over parts", f"{_DUELS_ON_S3}[over-parts]", *_ANY_WRITER),
    _row(
        "S3: numbers of parts",
        "tests/storage/s3/test_writer.py::test_writer_that_was_superseded_is_never_listed",
        _NUMBER_NOT_TAKEN,
    ),
    _row(
        "S3: requests fail",
        f"{_S3_FAULTS}::test_any_request_may_fail_once",
        Change(
            "storage/s3/writer.py",
            "        self._sent.append(self._part_uploads[0].result())\n"
            "        self._part_uploads.popleft()\n",
            "        self._sent.append(self._part_uploads.popleft().result())\n",
        ),
    ),
    _row(
        "S3: requests of other ways to upload fail",
        f"{_S3_FAULTS}::test_any_request_may_fail_in_every_way_to_upload",
        _NEVER_ABORTED,
    ),
    _row(
        "S3: expiry",
        f"{_S3_FAULTS}::test_expiry_may_fail_at_any_request",
        _NEVER_ABORTED,
    ),
    _row(
        "S3: another part's ETag",
        f"{_S3_FAULTS}::test_part_that_is_not_the_one_that_was_sent_is_lost_bytes",
        Change("storage/s3/errors.py", '"InvalidPart"', '"NoPart"'),
    ),
    _row(
        "S3: large files",
        "tests/servers/test_s3_large.py",
        Change(
            "request/body.py", "BLOCK_SIZE = 256 * 2**10", "BLOCK_SIZE = 64 * 2**20"
        ),
    ),
    _row(
        "stateful model",
        "tests/dialects/test_tus_machine.py",
        Change(
            "dialects/tus/checksum.py",
            "if not all(digests.matches(checksum) for checksum in expected):",
            "if not expected:",
        ),
    ),
    _row(
        "fuzz",
        "tests/security/test_fuzz.py",
        Change(
            "request/fields.py",
            "    except (ValueError, RecursionError) as error:",
            "    except KeyError as error:",
        ),
    ),
    _row(
        "database away: PostgreSQL stops",
        f"{_AWAY}::test_postgresql_stops_and_starts_again",
        _NO_ANSWER_FOR_AWAY,
    ),
    _row(
        "database away: connections end",
        f"{_AWAY}::test_connections_are_terminated",
        _NO_ANSWER_FOR_AWAY,
    ),
    _row(
        "database away: SQLite is locked",
        f"{_AWAY}::test_sqlite_is_locked_for_longer_than_a_request_waits",
        _NO_ANSWER_FOR_AWAY,
    ),
    _row(
        "lost replies to commits",
        "tests/faults/test_lost_commits.py",
        Change(
            "database/repository.py",
            "if row is None or _progress(row) != expected:",
            "if row is not None:",
        ),
    ),
    _row(
        "repeats",
        "tests/faults/test_repeats.py",
        Change(
            "engine/append.py",
            "        if not self.may_repeat(upload, start, stop):\n"
            "            return False\n",
            "        return False\n",
        ),
    ),
    _row(
        "wrong clock",
        "tests/faults/test_clock.py",
        Change("engine/expiry.py", "now - self._idle,", "now - self._idle / 2,"),
    ),
    _row(
        "network",
        "tests/servers/test_network.py",
        _TOO_FAR,
    ),
    _row(
        "crowds: fast ones",
        f"{_CROWDS}::test_many_clients_at_once_all_finish",
        Change("database/transactions.py", "BUSY_TIMEOUT = 5.0", "BUSY_TIMEOUT = 0.0"),
    ),
    _row(
        "crowds: silent ones",
        f"{_CROWDS}::test_slow_clients_hold_nobody_up",
        Change(
            "request/body.py",
            "if not self._source.wait(self._timeout):",
            "if not self._source.wait(60):",
        ),
    ),
    _row(
        "crowds: eight threads",
        f"{_CROWDS}::test_a_crowd_on_eight_threads_spoils_nothing",
        Change(
            "request/body.py",
            "is_slow = self._received < self.minimum * self._waited",
            "is_slow = False",
        ),
    ),
    _row(
        "quotas",
        "tests/database/test_quotas.py",
        Change(
            "database/quota_rows.py",
            ".where(self._row_of(owner), *conditions)",
            ".where(self._row_of(owner))",
        ),
    ),
    _row(
        "kill at every step of a concatenation",
        "tests/faults/test_kill_steps.py",
        Change(
            "database/quotas.py",
            "        for owner in owners:\n            self.recount(",
            "        for owner in owners[1:]:\n            self.recount(",
        ),
    ),
    _row(
        "races of final uploads",
        "tests/gate/test_races.py",
        Change(
            "database/transitions.py",
            "if connection.execute(self._members.awaited_too_often(ids)).first():",
            "if not ids:",
        ),
    ),
    _row(
        "races of quotas",
        "tests/gate/test_quota_races.py",
        Change(
            "database/quotas.py",
            "        self._lock_owners(connection, partial.user)\n",
            "",
        ),
    ),
    _row(
        "quotas at every moment",
        "tests/gate/test_quota_herd.py",
        Change(
            "database/repository.py",
            "if row is not None and row.is_complete:",
            "if row is not None and row.is_complete and row.attempts:",
        ),
    ),
    _row(
        "memory",
        "tests/servers/test_memory.py",
        Change(
            "request/body.py", "BLOCK_SIZE = 256 * 2**10", "BLOCK_SIZE = 64 * 2**20"
        ),
    ),
)


if __name__ == "__main__":
    sys.exit(command(BREAKS, __doc__, ALL))
