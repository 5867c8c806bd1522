"""The partial uploads that a final one is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..exceptions import NotAPartial, PartialMissing
from ..storage.base import Blob
from .ports import Repository
from .records import Upload
from .states import Status


@dataclass(frozen=True, slots=True)
class Members:
    """The partial uploads of a final one, in the order of concatenation."""

    uploads: tuple[Upload, ...]

    @property
    def are_complete(self) -> bool:
        """True if all members are complete."""
        return all(upload.is_complete for upload in self.uploads)

    @property
    def length(self) -> int | None:
        """Bytes of the final upload; ``None``: the length of a member is unknown."""
        lengths = [upload.length for upload in self.uploads]
        return None if None in lengths else sum(n for n in lengths if n is not None)

    @property
    def known(self) -> int:
        """The least length of the final upload, in bytes."""
        return sum(
            upload.offset if upload.length is None else upload.length
            for upload in self.uploads
        )

    @property
    def reserved(self) -> int:
        """Bytes that quotas count for the members before a final names them."""
        return sum(
            upload.length or upload.reserved or 0
            for upload in {upload.id: upload for upload in self.uploads}.values()
        )

    def from_offset(self, offset: int) -> list[tuple[Blob, int]]:
        """The content after the offset: blobs, and the first byte to copy from each.

        :raises BytesMissing: a member's file was moved away.
        """
        left: list[tuple[Blob, int]] = []
        for upload in self.uploads:
            blob = upload.require_blob()
            if offset < upload.offset:
                left.append((blob, offset))
            offset = max(0, offset - upload.offset)
        return left


def members_from(uploads: Sequence[Upload | None]) -> Members:
    """Check that uploads can be the members of a final one.

    :raises PartialMissing: one was terminated or expired.
    :raises NotAPartial: one is not a partial upload.
    """
    found: list[Upload] = []
    for upload in uploads:
        if upload is None or upload.status is Status.EXPIRED:
            raise PartialMissing()
        if not upload.partial:
            raise NotAPartial()
        found.append(upload)
    return Members(tuple(found))


def load_members(repository: Repository, final: Upload) -> Members:
    """The current rows of the members of a final upload.

    :raises PartialMissing: one was terminated or expired.
    """
    return members_from(repository.members(final.id))
