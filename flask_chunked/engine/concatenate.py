"""Final uploads: made from partial ones, in order, by the storage itself.

A final upload's row exists from its creation, and its offset says how far it is made. A
crash costs at most one section; the next request that asks goes on from there.
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

        From here on it counts its whole length, and its members count no more.

        :raises: as :meth:`Creator.upload`.
        :raises TooLarge: what is known of the members is too much already.
        :raises PartialMissing: a member was removed meanwhile.
        :raises TooManyFinals: too many final uploads wait for a member already.
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
        """Final uploads that cannot be made before this partial one is complete."""
        return self._repository.waiting_finals(upload.id)

    def note_length(self, final: Upload, members: Members) -> Upload:
        """Store a final upload's length as soon as its members have theirs."""
        length = members.length
        if final.status is not Status.UPLOADING or length is None:
            return final
        return self._declarer.length(final, length)

    def assemble(self, final: Upload, members: Members) -> Upload:
        """Make a final upload from its members, or go on after a crash.

        :param members: complete, all of them.
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
        """Complete a final upload whose bytes are all there."""
        return self._completer.complete(final, None).upload
