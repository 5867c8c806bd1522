"""The stage of the memory storage: its bytes, its list, and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from flask_chunked.storage.memory_stage import MemoryStage

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)


@pytest.fixture
def stages() -> dict[str, MemoryStage]:
    """The open stages of a storage."""
    return {}


def test_blocks_follow_each_other(stages: dict[str, MemoryStage]) -> None:
    stage = MemoryStage(stages, NOW)
    assert [stage.write(b"abc"), stage.write(bytearray(b"de"))] == [3, 2]
    assert stage.write(memoryview(b"xfx")[1:2]) == 1
    assert (stage.size, bytes(stage.content or b"")) == (6, b"abcdef")
    assert stage.sha256().digest() == hashlib.sha256(b"abcdef").digest()


def test_size_counts_the_bytes_of_a_wide_view(stages: dict[str, MemoryStage]) -> None:
    stage = MemoryStage(stages, NOW)
    assert stage.write(memoryview(bytes(8)).cast("I")) == 8
    assert stage.size == 8


def test_open_stages_are_listed_under_names_of_their_own(
    stages: dict[str, MemoryStage],
) -> None:
    first, second = MemoryStage(stages, NOW), MemoryStage(stages, NOW)
    assert list(stages.values()) == [first, second]
    assert first.modified_at == NOW
    first.close()
    assert list(stages.values()) == [second]


def test_stage_may_be_closed_again(stages: dict[str, MemoryStage]) -> None:
    with MemoryStage(stages, NOW) as stage:
        stage.close()
    assert stages == {}


@pytest.mark.parametrize(
    "use", [lambda stage: stage.write(b"a"), lambda stage: stage.sha256()]
)
def test_closed_stage_is_refused(
    stages: dict[str, MemoryStage], use: Callable[[MemoryStage], object]
) -> None:
    stage = MemoryStage(stages, NOW)
    stage.write(b"abc")
    stage.close()
    with pytest.raises(RuntimeError, match="closed or was taken"):
        use(stage)
