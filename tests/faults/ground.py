"""The ground that faults happen on: an app, its engine, contents that are known.

A process that forks closes its database connections first: SQLite's must not be shared.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy import update

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.digests import FileDigest
from flask_chunked.engine.engine import Engine
from flask_chunked.engine.members import members_from
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.registration import Registration
from tests.apps import dispose, make_app, registered

#: Bytes of the partial uploads that a final one is made of, in their order.
PARTS = (5_000, 4_001)
#: File below the app's directory to which ``deliver`` writes a line for each call.
DELIVERIES = "deliveries"
#: Characters of such a line: two UUIDs and a space.
DELIVERY_LENGTH = 73


class Recording(ChunkedUploadBlueprint):
    """Writes down what it delivers; moves the file away where the app wants that.

    :ivar around_deliver: called before (False) and after (True) each delivery.
    """

    around_deliver: Callable[[bool], None] | None = None
    destination: Path | None = None
    refuses: bool = False
    log: Path

    def deliver(self, upload: Any) -> None:
        if self.around_deliver is not None:
            self.around_deliver(False)
        if self.refuses:
            raise RuntimeError("the application cannot take it now")
        if self.destination is not None:
            self.move(upload, self.destination)
        # Linux looks for SIGKILL at each page of a file: a line may be cut there.
        # The line break before it keeps a cut line apart from the next one.
        line = f"\n{upload.id} {upload.event_id}\n".encode()
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)
        if self.around_deliver is not None:
            self.around_deliver(True)


class Ground:
    """An app in a directory, with one blueprint; nothing of it is open yet.

    :ivar keeps_connections: after :meth:`open`, too; PostgreSQL's only, and only where
        all children call :meth:`warm`.
    """

    keeps_connections = False

    def __init__(self, directory: Path, **config: Any) -> None:
        self.directory = directory
        config = {
            "blueprint_class": Recording,
            "CHUNKED_UPLOAD_DOWNLOADS": True,
            **config,
        }
        self.app: Flask = make_app(directory, **config)
        self.blueprint.log = directory / DELIVERIES
        dispose(self.app)

    @property
    def here(self) -> Registration:
        """The blueprint's registration: engine, repository, storage."""
        return registered(self.app)

    @property
    def engine(self) -> Engine:
        """The engine, to be used in an app context."""
        return self.here.engine

    @property
    def blueprint(self) -> Recording:
        """The blueprint with the recording ``deliver``."""
        found = self.here.policy
        assert isinstance(found, Recording)
        return found

    @contextmanager
    def open(self) -> Iterator[Engine]:
        """An app context; at its end SQLite's connections are closed, for forks."""
        try:
            with self.app.app_context():
                yield self.engine
        finally:
            if not self.keeps_connections:
                dispose(self.app)

    def empty_tables(self) -> None:
        """Delete all rows."""
        with self.open(), self.here.database.transaction() as connection:
            for table in self.here.tables:
                connection.execute(table.delete())

    def warm(self) -> None:
        """In a new process: go on with what its parent has compiled and loaded.

        Statements, that is, not connections.
        """
        self.here.database._pid = os.getpid()
        if self.keeps_connections:
            with self.app.app_context():
                self.here.database.engine().dispose(close=False)

    def deliveries(self, upload_id: UUID) -> list[str]:
        """Event ids that ``deliver`` was called with for an upload, in order."""
        log = self.blueprint.log
        if not log.exists():
            return []
        lines = log.read_text().splitlines()
        calls = [line.split() for line in lines if len(line) == DELIVERY_LENGTH]
        return [event for found, event in calls if found == str(upload_id)]

    def create(self, length: int) -> Upload:
        """A new upload; in an app context."""
        new = NewUpload(
            user=None, filename="fault.bin", length=length, dialect="content-range"
        )
        return self.engine.create.upload(new)

    def create_with(self, length: int, count: int) -> Upload:
        """A new upload whose first bytes come along."""
        new = NewUpload(
            user=None, filename="fault.bin", length=length, dialect="content-range"
        )
        engine, upload_id = self.engine, uuid4()
        engine.create._new_id = lambda: upload_id
        body = Blocks([content(upload_id, length)[:count]])
        try:
            return engine.create.with_body(new, body, count, finishing=True)
        finally:
            engine.create._new_id = uuid4

    def create_partial(self, length: int) -> Upload:
        """A new partial upload."""
        new = NewUpload(
            user=None,
            filename="part.bin",
            length=length,
            dialect="tus",
            partial=True,
            concat="partial",
        )
        return self.engine.create.upload(new)

    def create_final(self, parts: Sequence[UUID]) -> Upload:
        """A new final upload of these partial ones; nothing of it is made yet."""
        rows = [self.engine.repository.get(part) for part in parts]
        new = NewUpload(
            user=None,
            filename="whole.bin",
            length=None,
            dialect="tus",
            concat="final;" + " ".join(f"/uploads/{part}" for part in parts),
        )
        return self.engine.concatenate.create(new, members_from(rows))

    def content_of(self, row: Upload) -> bytes:
        """All bytes that an upload will have; a final one, those of its members."""
        if row.partial or row.concat is None:
            return content(row.id, row.length or 0)
        parts = row.concat.removeprefix("final;").split()
        ids = [UUID(part.rpartition("/")[2]) for part in parts]
        lengths = dict(zip(ids, PARTS, strict=False))
        return b"".join(content(part, lengths[part]) for part in ids)

    def mismatches(self) -> list[str]:
        """Quotas that do not say what the uploads say; in an app context."""
        found = self.here.repository.quota_mismatches()
        return [f"quota of {one.owner or 'all'} is wrong: {one}" for one in found]

    def set_columns(self, upload_id: UUID, **values: object) -> None:
        """Change a row behind the engine's back; in an app context."""
        table = self.here.table
        with self.here.database.transaction() as connection:
            connection.execute(
                update(table).where(table.c.id == upload_id).values(**values)
            )

    def stored_bytes(self, upload: Upload) -> bytes | None:
        """An upload's bytes, whatever is done with them meanwhile."""
        for _ in range(3):
            path = self.stored_path(upload)
            if path is None:
                return None
            # Renamed or removed since we looked.
            with suppress(FileNotFoundError):
                return path.read_bytes()
        return None

    def unaccounted(self) -> list[str]:
        """Files without a row, rows without their file; nobody is at work."""
        found = []
        paths = set()
        for row in self.here.repository.matching():
            path = self.stored_path(row)
            if row.status in (Status.EXPIRED,):
                continue
            if path is None and row.offset and row.storage_key is not None:
                found.append(f"row {row.id} without bytes")
            if path is not None:
                paths.add(path)
                if path.stat().st_size != row.offset:
                    found.append(f"{path.name} is longer than {row.offset}")
        found += self._stray_names()
        root = self.directory / "instance"
        for path in root.rglob("*"):
            if path.is_file() and path not in paths:
                found.append(f"file without a row: {path.relative_to(root)}")
        return found

    def _stray_names(self) -> list[str]:
        """Names of members that no final upload has, or had when it was complete."""
        here = self.here
        with here.database.transaction() as connection:
            names = connection.execute(here.members.table.select()).all()
        found = []
        for final_id, _, partial_id in names:
            final, partial = map(here.repository.get, (final_id, partial_id))
            was_complete = final is None and bool(self.deliveries(final_id))
            if final is None and not (was_complete and partial is not None):
                found.append(f"name of {partial_id} in {final_id}, which is gone")
        return found

    def stored_path(self, upload: Upload) -> Path | None:
        """Where an upload's bytes are now, finished or not."""
        blob = upload.blob
        if blob is None:
            return None
        root = Path(self.here.storage.identity.removeprefix("local:"))
        settings = self.here.settings
        # Finished twice: a rename between the first two looks would hide both.
        suffixes = (settings.complete_ext, settings.incomplete_ext)
        for suffix in (*suffixes, settings.complete_ext):
            path = root / f"{blob.key}{suffix}"
            if path.exists():
                return path
        return None


def on_database(url: str | None) -> dict[str, Any]:
    """Configuration for a driver's database; ``None``: the ground's own SQLite file."""
    return {} if url is None else {"SQLALCHEMY_DATABASE_URI": url}


class Blocks:
    """A body that arrives in blocks; ``None`` stands for a client's silence."""

    def __init__(self, blocks: Sequence[bytes | None]) -> None:
        self._blocks = list(blocks)
        self.is_short = len(blocks) < 2

    @property
    def ended(self) -> bool:
        return not self._blocks

    def read(self) -> memoryview:
        block = self._blocks.pop(0) if self._blocks else None
        return memoryview(block or b"")

    def unread(self, block: memoryview) -> None:
        """Put it back."""
        self._blocks.insert(0, bytes(block))

    def read_nowait(self) -> memoryview:
        return self.read()

    def splice_into(self, pipe: int, count: int) -> int | None:
        """Everything is seen."""
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """The client goes on at once, unless the wait has a timeout."""
        return timeout is None

    @property
    def interrupted(self) -> bool:
        """It never is."""
        return False

    def interrupt(self) -> None:
        """What is on its way comes all the same."""


def content(upload_id: UUID, length: int) -> bytes:
    """The one content that an upload with this id may have."""
    return random.Random(upload_id.int).randbytes(length)


def append_streamed(
    engine: Engine,
    upload: Upload,
    start: int,
    blocks: Sequence[bytes | None],
    *,
    finishing: bool = False,
) -> Upload:
    """Append as a raw body that comes block by block."""
    stop = start + sum(len(block or b"") for block in blocks)
    body = Blocks(blocks)
    return engine.append.stream(upload, start, stop, body, finishing=finishing)


def append_staged(engine: Engine, upload: Upload, start: int, chunk: bytes) -> Upload:
    """Append as a chunk that must be whole."""
    with engine.storage.stage() as stage:
        stage.write(chunk)
        return engine.append.whole(
            upload, start, stage, file_digest_after(engine, upload, chunk)
        )


def append_form(
    engine: Engine, upload: Upload, start: int, chunk: bytes, *, at_once: bool = False
) -> Upload:
    """Append as the file part of a form, which is written where it will be.

    :param at_once: nobody is let in between.
    """
    if not (engine.storage.writes_ahead and start and chunk):
        return append_staged(engine, upload, start, chunk)
    middle = len(chunk) // 2
    with engine.append.hold(upload, start, Blocks([chunk])) as writer:
        writer.most_kept = 0
        for piece in (chunk[:middle], chunk[middle:]):
            if not at_once:
                writer.pause()
            writer.write(memoryview(bytearray(piece)))
        return engine.append.commit(writer)


def file_digest_after(
    engine: Engine, upload: Upload, chunk: bytes
) -> FileDigest | None:
    """What a dialect takes on the way into the stage."""
    digest = engine.append.file_digest(upload)
    if digest is not None:
        digest.update(chunk)
    return digest
