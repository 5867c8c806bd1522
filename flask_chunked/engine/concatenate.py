"""Makes final uploads from partial ones. The storage copies the bytes.

The row of a final upload exists from its creation, and its offset counts the copied
bytes. A crash costs at most one section; the next request continues at the offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .append import Appender
from .complete import Completer
from .create import Creator
from .declaration import Declarer
from .gate import Gate
from .members import Members, load_members
from .ports import Ports
from .records import NewUpload, Upload
from .states import Status
from .writer import UploadWriter


class Concatenator:
    """Makes final uploads."""

    def __init__(
        self,
        ports: Ports,
        appender: Appender,
        completer: Completer,
        creator: Creator,
        declarer: Declarer,
    ) -> None:
        self._ports = ports
        self._repository = ports.repository
        self._gate = Gate(ports.policy, ports.storage)
        self._appender = appender
        self._completer = completer
        self._creator = creator
        self._declarer = declarer

    def create(self, new: NewUpload, members: Members) -> Upload:
        """Insert the row of a final upload, with its members.

        From now on quotas count its whole length, and no longer its members.

        :raises: as :meth:`Creator.upload`.
        :raises TooLarge: the known lengths of the members are too much already.
        :raises PartialMissing: a member was removed concurrently.
        :raises TooManyFinals: too many final uploads already wait for a member.
        """
        ids = tuple(upload.id for upload in members.uploads)
        self._gate.require_length(members.known)
        final = replace(new, length=members.length, members=ids, least=members.reserved)
        return self._creator.upload(final)

    def members(self, final: Upload) -> Members:
        """The partial uploads of a final one.

        :raises PartialMissing: one is gone.
        """
        return load_members(self._repository, final)

    def finals_waiting_for(self, upload: Upload) -> Sequence[Upload]:
        """The final uploads that wait for this partial one to complete."""
        return self._repository.waiting_finals(upload.id)

    def note_length(self, final: Upload, members: Members) -> Upload:
        """Store a final upload's length, if its members' lengths are known."""
        length = members.length
        if final.status is not Status.UPLOADING or length is None:
            return final
        return self._declarer.length(final, length)

    def assemble(self, final: Upload, members: Members) -> Upload:
        """Make a final upload from its members, or continue after a crash.

        :param members: must all be complete.
        """
        if final.status is Status.UPLOADING:
            final = self.note_length(final, members)
            if final.offset < (final.length or 0):
                claimed = self._appender.claim(final, final.offset)
                writer = UploadWriter(claimed, self._ports)
                with self._appender.writing(writer):
                    for blob, start in members.from_offset(final.offset):
                        writer.copy(blob, start)
        elif final.status is not Status.COMPLETING:
            return final
        return self.complete(final)

    def complete(self, final: Upload) -> Upload:
        """Complete a final upload whose bytes are all stored."""
        return self._completer.complete(final, None).upload
