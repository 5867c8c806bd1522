"""One request's bytes on their way into an upload: sections, fence, offset.

The rule: bytes are written, then made durable, then the offset moves, then the client
is told. Nothing is locked while the client is being waited for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

from ..exceptions import ChunkSizeMismatch, StorageError, Superseded
from ..storage.base import Blob, Stage, State, Storage
from .digest_thread import Beside
from .digests import FileDigest, resume
from .gate import Gate
from .ports import Reader, Repository
from .records import Ending, Step, Upload
from .splice import PIPE_SIZE, Pipe
from .states import Status

#: Bytes of the file that ``inspect`` sees.
HEAD_SIZE = 4096
#: A streamed body commits after so many bytes ...
COMMIT_BYTES = 32 * 2**20
#: ... or seconds, whichever is first.
COMMIT_SECONDS = 1.0
#: Others are kept out for about so many seconds at most, while bytes keep coming.
SECTION_SECONDS = 0.05
#: A concatenation commits after so many bytes.
COPY_BYTES = 256 * 2**20


class Intake:
    """Appends one chunk for one claim. Use as a context manager.

    :param claimed: the snapshot that :meth:`Repository.claim` returned; or another one,
        with ``claim``.
    :param claim: claims the upload, with any fence or with one only, in the first
        section or when the client is silent; never, where all of the body comes at once
        and is committed with its section.
    :ivar claimed: the upload as it was claimed.
    :param finishing: with the last byte's commit completion begins.
    :param ending: makes what the row gets, where the file of an upload that comes whole
        may be finished before its one commit; ``None``: it may not.
    :ivar upload: the same with what was committed since.
    """

    def __init__(
        self,
        claimed: Upload,
        repository: Repository,
        storage: Storage,
        gate: Gate,
        clock: Callable[[], datetime],
        *,
        finishing: bool = False,
        ending: Callable[[], Ending] | None = None,
        claim: Callable[[int | None], Upload] | None = None,
    ) -> None:
        blob = claimed.blob
        if blob is None:  # pragma: no cover - an open upload always has a key
            raise ValueError("an upload without a storage key takes no bytes")
        self.upload = self.claimed = claimed
        self._claim = claim
        self._repository = repository
        self._gate = gate
        self._clock = clock
        self._finishing = finishing
        self._ending = ending
        self._appender = storage.appender(blob)
        self._appender.bind(self._save)
        if claimed.length is not None:
            self._appender.expect(claimed.length)
        # Only needed to know the chunk again where it cannot be read again.
        self._digest = None if storage.reads_unfinished else hashlib.sha256()
        self._file_digest = resume(
            claimed.hash_name, claimed.hash_state, claimed.offset
        )
        self._committed_at = time.monotonic()
        self._pipe: Pipe | None = None
        digests = [d for d in (self._digest, self._file_digest) if d is not None]
        self._beside = Beside(digests)
        self._may_pour = self._appender.drains_pipes and not digests
        #: ``inspect`` did not agree; the bytes must not be committed.
        self.refused = False
        #: Another request ended the body.
        self.let_go = False

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._beside.close()
        self._appender.close()

    @property
    def committed(self) -> int:
        """Bytes of the upload that are committed."""
        return self.upload.offset

    def stream(self, reader: Reader, stop: int | None) -> None:
        """Take a body as it comes; whatever ends it, what arrived is committed.

        :param stop: where the chunk must not go beyond, ``None``: no limit known.
        :raises ChunkSizeMismatch: the body is longer; it is kept up to ``stop``.
        :raises Superseded: a newer request took over; it decides what is kept.
        """
        try:
            self._receive(reader, stop)
        # Whatever ends the body, also a worker that is told to exit while it reads,
        # the bytes that arrived are committed before it goes on.
        except Superseded:
            raise
        except BaseException as error:
            self.let_go = reader.is_let_go
            if not self.refused:
                self._keep_what_arrived(error)
            raise
        self._commit_pending()

    def _keep_what_arrived(self, error: BaseException) -> None:
        try:
            self._commit_pending()
        except StorageError:
            # After a storage's first failure another one has nothing new to tell.
            if not isinstance(error, StorageError):
                raise

    def _receive(self, reader: Reader, stop: int | None) -> None:
        while not reader.ended:
            self.make_room()
            block = reader.read()
            if not block:
                if not reader.ended and not self._lingered(reader):
                    self.claim()
                    self._commit_pending()
                    reader.wait()
                continue
            with self._appender.exclusive():
                alone = self._may_leave_it_to_the_commit(block, reader, stop)
                if not alone:
                    self._check_fence()
                self._take_section(block, reader, stop)
                due = self._is_due() or reader.ended
                if due and not self._needs_inspection():
                    self._commit(self._finish() if alone else None)
            if due:
                self._commit_pending()

    def _lingered(self, reader: Reader) -> bool:
        """Did the client go on before a commit was due, where commits are dear?"""
        pending = self._appender.position > self.committed
        if not pending or not self._appender.lingers:
            return False
        left = self._committed_at + COMMIT_SECONDS - time.monotonic()
        return left > 0 and reader.linger(left)

    def _take_section(
        self, block: memoryview, reader: Reader, stop: int | None
    ) -> None:
        """Write a block and what follows at once; nobody is waited for in here."""
        until = time.monotonic() + SECTION_SECONDS
        moved: int | None = self._write(block, stop)
        while moved and not (reader.ended or self._is_due()):
            if time.monotonic() > until:
                return
            moved = self._pour(reader, stop)
            if moved is None:
                self.make_room()
                moved = self._write(reader.read_ready(), stop)

    def _write(self, block: memoryview, stop: int | None) -> int:
        room = len(block) if stop is None else stop - self._appender.position
        kept = block[:room]
        if kept:
            self._put(kept)
        if room < len(block):
            reported = self._appender.position - self.claimed.offset
            extra = len(block) - room
            raise ChunkSizeMismatch(reported + extra, reported)
        return len(block)

    def _put(self, block: memoryview) -> None:
        self._appender.write(block)
        # Not before: a state stands for bytes that are there.
        self._beside.update(block)

    @property
    def is_at_work(self) -> bool:
        """May a block that was given still be looked at?"""
        return self._beside.is_at_work

    def make_room(self) -> None:
        """Wait until the block before the last one is not needed any more."""
        self._beside.make_room()

    def _pour(self, reader: Reader, stop: int | None) -> int | None:
        """Move bytes that nobody has to see; ``None``: somebody has to."""
        if not self._may_pour:
            return None
        room = PIPE_SIZE
        if stop is not None:
            room = min(room, stop - self._appender.position)
        if not room:
            # What still comes is too much, and the other way says so.
            return None
        pipe = self._pipe = self._pipe or Pipe.open()
        moved = None if pipe is None else reader.pour(pipe.inlet, room)
        if pipe is None or moved is None:
            self._may_pour = False
            return None
        if moved:
            self._appender.write_from(pipe.outlet, moved)
        return moved

    def copy(self, source: Blob, start: int) -> None:
        """Append another upload's bytes from ``start`` to its end, and commit them.

        The storage copies or shares them; they do not pass through this process.
        """
        self._file_digest = None
        while start < source.size:
            count = min(COPY_BYTES, source.size - start)
            with self._appender.exclusive():
                self._check_fence()
                self._appender.copy(source, start, count)
            start += count
            self._commit_pending()

    def take(self, stage: Stage, file_digest: FileDigest | None) -> None:
        """Append a whole chunk and commit it.

        :param file_digest: of the file up to the end of the chunk, where it was taken
            on the way into the stage.
        """
        # It counts only where it went on from the very state that was claimed.
        mine = file_digest is not None and file_digest.origin == self.claimed.hash_state
        self._file_digest = file_digest if mine else None
        if self._digest is not None:
            self._digest = stage.sha256()
        with self._appender.exclusive():
            self._check_fence()
            self._appender.take(stage)
            if not self._needs_inspection():
                self._commit()
        self._commit_pending()

    def _commit_pending(self) -> None:
        # Behind its section nobody can tell what was written without a claim from what
        # another one wrote there since.
        if self._appender.position == self.committed or not self.is_claimed:
            return
        if self._needs_inspection():
            self._inspect()
        with self._appender.exclusive():
            self._commit()

    def _finish(self) -> Ending | None:
        """Finish the file of an upload that came whole; ``None``: not so here."""
        if self._ending is None or self._appender.position != self.claimed.length:
            return None
        return self._ending() if self._appender.finish() else None

    def _commit(self, ending: Ending | None = None) -> None:
        receipt = self._appender.flush()
        self._beside.settle()
        state = self.upload.storage_state if receipt.state is None else receipt.state
        position = self._appender.position
        step = Step(
            upload_id=self.upload.id,
            fence=self.upload.fence,
            old_offset=self.upload.offset,
            offset=position,
            start=self.claimed.offset,
            digest=None if self._digest is None else self._digest.hexdigest(),
            state=state,
            hash_state=self._dump_at(position),
            at=self._clock(),
            parts=receipt.parts,
            ending=ending,
        )
        if self._finishing and position == self.claimed.length:
            verifies = self._gate.verifies(self.claimed)
            started_at = step.at if verifies and ending is None else None
            step = replace(step, completes=True, verify_started_at=started_at)
        if not self._repository.advance(step):
            self._appender.settle(committed=False)
            raise self._superseded()
        end: dict[str, Any] = {}
        if ending is not None:
            end = ending.changes(step.at)
        elif step.completes:
            end = {
                "status": Status.COMPLETING,
                "verify_started_at": step.verify_started_at,
            }
        self.upload = replace(
            self.upload,
            offset=step.offset,
            last_start=step.start,
            last_digest=step.digest,
            storage_state=state,
            hash_state=step.hash_state,
            fence=step.fence + step.completes,
            **{"last_activity_at": step.at, **end},
        )
        self._committed_at = time.monotonic()
        self._appender.settle(committed=True)

    def _save(self, state: State) -> None:
        """Store what the storage must know again, whatever happens to this claim.

        :raises Superseded: somebody else has the upload.
        """
        now = self.upload
        step = Step(
            upload_id=now.id,
            fence=now.fence,
            old_offset=now.offset,
            offset=now.offset,
            start=now.last_start,
            digest=now.last_digest,
            state=state,
            hash_state=now.hash_state,
            at=self._clock(),
        )
        if not self._repository.advance(step):
            raise self._superseded()
        self.upload = replace(now, storage_state=state)

    def _dump_at(self, position: int) -> bytes | None:
        digest = self._file_digest
        return (
            digest.dump() if digest is not None and digest.count == position else None
        )

    @property
    def is_claimed(self) -> bool:
        """Is the upload this request's, unless somebody took it over?"""
        return self._claim is None

    def claim(self, *, as_seen: bool = False) -> None:
        """Claim the upload, unless that is done.

        :param as_seen: only with the fence that it had when it was looked at, since
            bytes were written then.
        :raises Superseded: somebody else was at it since it was looked at.
        """
        if self._claim is None:
            return
        claim, self._claim = self._claim, None
        seen = self.upload
        claimed = claim(seen.fence if as_seen else None)
        if claimed.storage_state != seen.storage_state:
            raise self._superseded()
        self.upload = self.claimed = claimed

    def _may_leave_it_to_the_commit(
        self, block: memoryview, reader: Reader, stop: int | None
    ) -> bool:
        """Is this all that comes, for the end of a file that nobody else writes?

        Nothing of anybody's can be spoiled then, and the commit in this very section
        looks at fence and offset itself.
        """
        fits = stop is None or self._appender.position + len(block) <= stop
        return reader.ended and fits and self._is_alone()

    def _is_alone(self) -> bool:
        """Would bytes that are written in this section stand where nobody's are?"""
        return (
            self._appender.position == self.committed
            and not self._gate.inspects(self.claimed)
            and self._appender.ends_at_position()
        )

    def _check_fence(self) -> None:
        if self._claim is not None:
            # Nobody else can write while we are in here, so that the claim will do.
            self.claim()
            return
        mine = self.upload
        if not self._repository.holds(mine.id, mine.fence, mine.offset):
            raise self._superseded()

    def _superseded(self) -> Superseded:
        row = self._repository.get(self.claimed.id)
        mine = (Status.UPLOADING, self.committed)
        if not self.is_claimed and (row is None or (row.status, row.offset) != mine):
            # There is more to tell than that somebody took over.
            self.claim()
        offset = self.committed if row is None else row.offset
        return Superseded(expected=offset, provided=self.claimed.offset)

    def _is_due(self) -> bool:
        pending = self._appender.position - self.committed
        waited = time.monotonic() - self._committed_at
        return pending >= COMMIT_BYTES or waited >= COMMIT_SECONDS

    def _needs_inspection(self) -> bool:
        crossing = self.committed < head_size(self.claimed) <= self._appender.position
        return crossing and self._gate.inspects(self.claimed)

    def _inspect(self) -> None:
        head = self._appender.head(head_size(self.claimed))
        self.refused = True
        self._gate.inspect(self.claimed, head)
        self.refused = False


def head_size(upload: Upload) -> int:
    """How many bytes of the file ``inspect`` sees."""
    return HEAD_SIZE if upload.length is None else min(HEAD_SIZE, upload.length)
