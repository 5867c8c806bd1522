"""Bytes without an upload, and failures while they are looked for."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask

from flask_chunked import check
from flask_chunked.exceptions import StorageError

from .aging import age_file
from .apps import registered, stored_files
from .exchange import begin, id_of

pytestmark = pytest.mark.local_disk


def stray(app: Flask, tmp_path: Path, count: int) -> list[Path]:
    """Old files of uploads that never were."""
    begin(app.test_client(), b"abc", 6)
    (known,) = stored_files(tmp_path)
    paths = [known.with_name(f"{uuid4()}.part") for _ in range(count)]
    for path in paths:
        path.write_bytes(b"stray")
        age_file(path)
    return paths


def test_an_orphan_that_cannot_be_removed_stops_no_other(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *others = stray(app, tmp_path, 3)
    storage = registered(app).storage
    discard = storage.discard

    def fail(item: object, *rest: object) -> bool:
        if bad.stem in item.key:  # type: ignore[attr-defined]
            raise StorageError() from PermissionError(1, "Operation not permitted")
        return discard(item, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "discard", fail)
    with app.app_context():
        found = {one.subject.rpartition("/")[2]: one for one in check(repair=True)}
    assert {name: one.repaired for name, one in found.items()} == {
        bad.stem: False,
        **{path.stem: True for path in others},
    }
    assert found[bad.stem].cause == "storage_error: [Errno 1] Operation not permitted"
    assert bad.exists()


def test_bytes_that_are_noted_for_removal_are_no_orphans(
    app: Flask, tmp_path: Path
) -> None:
    here = registered(app)
    upload_id = id_of(begin(app.test_client(), b"abc", 6))
    (path,) = stored_files(tmp_path)
    with app.app_context():
        here.repository.terminate(upload_id, here.engine.clock())
        age_file(path)
        kinds = [one.kind for one in check()]
    assert kinds == ["half-removed"]
