"""Writes one request's bytes into an upload: sections, fence, offset.

The order is fixed: write the bytes, make them durable, move the offset, answer the
client. No lock is held while the request waits for its client.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from ..exceptions import Superseded
from ..storage.base import Blob, Stage, State
from .digest_thread import DigestThread
from .digests import FileDigest, resume
from .gate import Gate
from .ports import Ports
from .records import CompletionRecord, OffsetCommit, Upload
from .states import Status

#: Bytes of the file that ``inspect`` sees.
HEAD_SIZE = 4096
#: A section lasts at most about so many seconds while bytes arrive.
SECTION_SECONDS = 0.05
#: A concatenation commits after so many bytes.
COPY_BYTES = 256 * 2**20

#: Claims an upload; if a fence is given, the row must still have it.
Claim = Callable[[int | None], Upload]


class UploadWriter:
    """Writes into an upload for one request. Use as a context manager.

    :param claimed: the upload as :meth:`Repository.claim` returned it; with ``claim``,
        as the request read it.
    :param claim: called at most once, before the first section ends with uncommitted
        bytes. It is not called if that section writes and commits the whole body.
    :param finishing: the commit of the last byte begins completion.
    :ivar claimed: the upload at the start of the request; a claim replaces it.
    :ivar upload: the upload after the last commit.
    :ivar refused: ``inspect`` did not return, so the bytes must not be committed.
    :ivar interrupted: a later request ended the body; the subclass sets it.
    """

    def __init__(
        self,
        claimed: Upload,
        ports: Ports,
        *,
        finishing: bool = False,
        claim: Claim | None = None,
    ) -> None:
        self.upload = self.claimed = claimed
        self._claim = claim
        self._repository = ports.repository
        self._gate = Gate(ports.policy, ports.storage)
        self._clock = ports.clock
        self._finishing = finishing
        self._appender = ports.storage.appender(claimed.require_blob())
        self._appender.bind(self._save)
        if claimed.length is not None:
            self._appender.set_length(claimed.length)
        # It recognises a repeated chunk. Only a storage that cannot read unfinished
        # bytes needs it.
        self._digest = None if ports.storage.reads_unfinished else hashlib.sha256()
        self._file_digest = resume(
            claimed.hash_name, claimed.hash_state, claimed.offset
        )
        self._committed_at = time.monotonic()
        self._digests = [d for d in (self._digest, self._file_digest) if d is not None]
        self._digest_thread = DigestThread(self._digests)
        self.refused = False
        self.interrupted = False

    def __enter__(self) -> UploadWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._digest_thread.close()
        self._appender.close()

    @property
    def committed(self) -> int:
        """Bytes of the upload that are committed."""
        return self.upload.offset

    # -- writing -------------------------------------------------------------------

    def _put(self, block: memoryview) -> None:
        self._appender.write(block)
        # Update the digests after the write: a digest state covers written bytes only.
        self._digest_thread.update(block)

    @property
    def is_at_work(self) -> bool:
        """True if the digest thread may still read a block."""
        return self._digest_thread.is_at_work

    def wait_for_buffer(self) -> None:
        """Wait until the digest thread has read all blocks but the last."""
        self._digest_thread.wait_for_buffer()

    def copy(self, source: Blob, start: int) -> None:
        """Append another upload's bytes from ``start`` to its end, and commit them.

        The storage copies or shares the bytes; this process does not read them.
        """
        # This process does not see the bytes, so it cannot continue the digest.
        self._file_digest = None
        while start < source.size:
            count = min(COPY_BYTES, source.size - start)
            with self._appender.exclusive():
                self._check_fence()
                self._appender.copy(source, start, count)
            start += count
            self._commit_pending()

    def take(self, stage: Stage, file_digest: FileDigest | None) -> None:
        """Append all bytes of a stage as one chunk, and commit it.

        :param file_digest: of the file up to the end of the chunk, if it was computed
            while the stage was filled.
        """
        # Use the digest only if it continues the digest state in the row.
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

    # -- committing ----------------------------------------------------------------

    def _commit_pending(self) -> None:
        # Without a claim, only the section that wrote bytes can commit them. After it,
        # another writer may overwrite them, so they are not committed here.
        if self._appender.position == self.committed or not self.is_claimed:
            return
        if self._needs_inspection():
            self._inspect()
        with self._appender.exclusive():
            self._commit()

    def _commit(self, completion: CompletionRecord | None = None) -> None:
        receipt = self._appender.flush()
        self._digest_thread.join()
        state = self.upload.storage_state if receipt.state is None else receipt.state
        position = self._appender.position
        commit = OffsetCommit(
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
            completion=completion,
        )
        if self._finishing and position == self.claimed.length:
            verifies = self._gate.verifies(self.claimed)
            started_at = commit.at if verifies and completion is None else None
            commit = replace(commit, completes=True, verify_started_at=started_at)
        if not self._repository.advance(commit):
            self._appender.rollback()
            raise self._superseded()
        self._note(commit)
        self._committed_at = time.monotonic()
        self._appender.committed()

    def _note(self, commit: OffsetCommit) -> None:
        """Update the snapshot to the row after this commit."""
        end: dict[str, Any] = {}
        if commit.completion is not None:
            end = commit.completion.changes(commit.at)
        elif commit.completes:
            end = {
                "status": Status.COMPLETING,
                "verify_started_at": commit.verify_started_at,
            }
        self.upload = replace(
            self.upload,
            offset=commit.offset,
            last_start=commit.start,
            last_digest=commit.digest,
            storage_state=commit.state,
            hash_state=commit.hash_state,
            fence=commit.fence + commit.completes,
            **{"last_activity_at": commit.at, **end},
        )

    def _save(self, state: State) -> None:
        """Store the storage's state now, and leave the offset.

        S3 stores the number of a part before it sends the part.

        :raises Superseded: another request has the upload.
        """
        now = self.upload
        commit = OffsetCommit(
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
        if not self._repository.advance(commit):
            raise self._superseded()
        self.upload = replace(now, storage_state=state)

    def _dump_at(self, position: int) -> bytes | None:
        digest = self._file_digest
        return (
            digest.dump() if digest is not None and digest.count == position else None
        )

    # -- the claim -----------------------------------------------------------------

    @property
    def is_claimed(self) -> bool:
        """True if this request has claimed the upload; a later one may supersede it."""
        return self._claim is None

    def claim(self, *, if_unchanged: bool = False) -> None:
        """Claim the upload, unless it is claimed already.

        :param if_unchanged: the row must still have the fence that was read. This
            request has written bytes since, which another claim could overwrite.
        :raises Superseded: the storage's state in the row has changed.
        """
        if self._claim is None:
            return
        claim, self._claim = self._claim, None
        seen = self.upload
        claimed = claim(seen.fence if if_unchanged else None)
        if claimed.storage_state != seen.storage_state:
            raise self._superseded()
        self.upload = self.claimed = claimed

    def _is_at_end_of_file(self) -> bool:
        """True if no other writer has bytes beyond the committed offset."""
        return (
            self._appender.position == self.committed
            and not self._gate.inspects(self.claimed)
            and self._appender.at_end_of_file()
        )

    def _check_fence(self) -> None:
        if self._claim is not None:
            # The section keeps other writers out, so a successful claim proves that no
            # other request has bytes here.
            self.claim()
            return
        mine = self.upload
        if not self._repository.holds(mine.id, mine.fence, mine.offset):
            raise self._superseded()

    def _superseded(self) -> Superseded:
        row = self._repository.get(self.claimed.id)
        mine = (Status.UPLOADING, self.committed)
        if not self.is_claimed and (row is None or (row.status, row.offset) != mine):
            # The claim raises a more precise error.
            self.claim()
        offset = self.committed if row is None else row.offset
        return Superseded(expected=offset, provided=self.claimed.offset)

    # -- the first bytes -----------------------------------------------------------

    def _needs_inspection(self) -> bool:
        crossing = self.committed < head_size(self.claimed) <= self._appender.position
        return crossing and self._gate.inspects(self.claimed)

    def _inspect(self) -> None:
        head = self._appender.head(head_size(self.claimed))
        self.refused = True
        self._gate.inspect(self.claimed, head)
        self.refused = False


def head_size(upload: Upload) -> int:
    """Bytes of the file that ``inspect`` sees."""
    return HEAD_SIZE if upload.length is None else min(HEAD_SIZE, upload.length)
