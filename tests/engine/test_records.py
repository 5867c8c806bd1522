"""Snapshots are frozen and show the application's own columns."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from flask_chunked.engine.expiry import utcnow
from flask_chunked.engine.records import NewUpload
from tests.engine.fakes import Bench


def test_own_columns_read_as_attributes() -> None:
    bench = Bench()
    upload = bench.engine.create.upload(
        NewUpload("ann", "a.bin", 3, "test", fields={"title": "Holiday"})
    )
    assert upload.title == "Holiday"
    with pytest.raises(AttributeError, match="colour"):
        upload.colour  # noqa: B018


def test_snapshots_are_frozen() -> None:
    upload = Bench().create()
    with pytest.raises(FrozenInstanceError):
        upload.offset = 5  # type: ignore[misc]


def test_a_moved_file_has_no_blob() -> None:
    upload = Bench().create()
    assert upload.blob is not None
    assert replace(upload, storage_key=None).blob is None


def test_the_default_clock_is_aware() -> None:
    assert utcnow().tzinfo is not None
