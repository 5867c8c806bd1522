"""Removal: members of final uploads that are no longer needed."""

from __future__ import annotations

import pytest

from flask_chunked.engine.records import Upload
from tests.engine.fakes import Bench


@pytest.fixture
def bench() -> Bench:
    """Partial uploads are not kept."""
    bench = Bench()
    bench.policy.keeps_partials = False
    return bench


def complete(bench: Bench, final: Upload) -> Upload:
    members = bench.engine.concatenate.members(final)
    return bench.engine.concatenate.assemble(bench.row(final), members)


@pytest.fixture
def used(bench: Bench) -> tuple[Upload, Upload]:
    """A partial upload that a complete final is made of, and another final for it."""
    part, late = bench.partial(b"abc"), bench.partial(b"d", 2)
    waiting = bench.final(part, late)
    assert complete(bench, bench.final(part)).is_complete
    return part, waiting


def test_the_last_final_that_waits_takes_used_members_with_it(
    bench: Bench, used: tuple[Upload, Upload]
) -> None:
    part, waiting = used
    assert part.id in bench.repository.rows
    bench.engine.remove.terminate(waiting)
    assert part.id not in bench.repository.rows


def test_a_member_that_has_expired_is_not_terminated(
    bench: Bench, used: tuple[Upload, Upload]
) -> None:
    part, waiting = used
    bench.clock.advance(days=2)
    bench.engine.remove.terminate(waiting)
    assert part.id in bench.repository.rows
    assert len(bench.policy.seen("terminated")) == 1


def test_a_final_is_removed_where_its_members_cannot_be_read(
    bench: Bench, used: tuple[Upload, Upload], caplog: pytest.LogCaptureFixture
) -> None:
    part, waiting = used
    bench.repository.failing.add("members")
    bench.engine.remove.terminate(waiting)
    assert waiting.id not in bench.repository.rows
    assert part.id in bench.repository.rows
    assert "are not removed: database_unavailable" in caplog.text
