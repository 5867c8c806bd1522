"""What is left of a road: rows, statuses and files, compared with the table."""

from __future__ import annotations

from uuid import UUID

from flask_chunked import Status, Upload
from tests.apps import rows, stored_files
from tests.exchange import id_of
from tests.gate.recorder import PARTIAL, Site, kind_of
from tests.gate.table import Known
from tests.gate.traveller import Traveller


def compare(site: Site, traveller: Traveller) -> None:
    """Rows and files are those of the uploads that the table knows, and no other."""
    there = {row.id: row for row in rows(site.app)}
    known = {
        id_of(one.url): one for one in traveller.uploads.values() if not one.is_gone
    }
    assert there.keys() == known.keys()
    for upload_id, row in there.items():
        _compare_row(site, row, known[upload_id])
    stored = {_id_in(path.name) for path in stored_files(site.tmp_path)}
    assert stored <= there.keys(), "files of uploads that are gone"


def _compare_row(site: Site, row: Upload, known: Known) -> None:
    status = Status.COMPLETE if known.is_complete else Status.UPLOADING
    there = (kind_of(row), row.status, row.length, row.offset)
    assert there == (known.kind, status, known.length, len(known.content))
    has_event = row.event_id is not None
    assert has_event == (known.is_complete and known.kind != PARTIAL)
    readable = row.is_complete or site.here.storage.reads_unfinished
    if row.blob is not None and row.offset and readable:
        with site.here.storage.open(row.blob) as file:
            assert file.read(row.offset + 1) == known.content


def asked_one_file(site: Site, traveller: Traveller) -> None:
    """Hooks of a file were given the files of the road and nothing else."""
    known = traveller.uploads.values()
    files = {id_of(one.url) for one in known if one.kind != PARTIAL}
    assert site.blueprint.asked <= files


def clear(site: Site) -> None:
    """Remove what a road has left; then no file is left."""
    for row in rows(site.app):
        if row.blob is not None:
            site.here.storage.delete(row.blob)
    with site.app.app_context(), site.here.database.transaction() as connection:
        for table in site.tables:
            connection.execute(table.delete())
    site.blueprint.refusal = None
    site.blueprint.asked.clear()
    site.blueprint.turn()
    assert stored_files(site.tmp_path) == []


def _id_in(name: str) -> UUID:
    return UUID(name.partition(".")[0][-36:])
