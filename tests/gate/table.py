"""What is asked, announced and left of an upload: the table of the kinds as a program.

Each method is one thing that a request means, whatever dialect says it. It changes what
is known of the uploads and writes down what the application must be asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.gate.recorder import FINAL, ORDINARY, PARTIAL, Note, Notes

#: Bytes that ``inspect`` gets, of a file that has so many.
HEAD = 4096


@dataclass(eq=False)
class Known:
    """One upload as its client knows it.

    :ivar length: ``None``: deferred.
    :ivar content: its bytes so far.
    :ivar members: of a final upload.
    :ivar finals: that wait for this partial upload.
    :ivar is_gone: it was removed, and so was each byte of it.
    """

    kind: str = ORDINARY
    length: int | None = None
    url: str = ""
    content: bytes = b""
    members: tuple[Known, ...] = ()
    finals: list[Known] = field(default_factory=list)
    is_inspected: bool = False
    is_complete: bool = False
    is_gone: bool = False

    @property
    def is_all_there(self) -> bool:
        """Offset = length?"""
        return len(self.content) == self.length


class Table:
    """Writes down what must be asked and announced until the next turn."""

    def __init__(self) -> None:
        self._notes = Notes()

    def turn(self) -> Notes:
        """What must have happened since the last turn."""
        notes, self._notes = self._notes, Notes()
        return notes

    # -- what requests mean -----------------------------------------------------------

    def act(self, action: str, upload: Known | None = None) -> None:
        """A request asks for an action."""
        self._notes.act(action, None if upload is None else upload.kind)

    def create(self, upload: Known) -> None:
        """A new upload: ``validate``, and ``inspect`` where it is empty."""
        self.act("create")
        if upload.kind == FINAL:
            for _ in upload.members:
                self._notes.act("read", PARTIAL)
            upload.length = _sum(upload)
            self._hook("validate", upload)
        elif upload.kind == ORDINARY:
            self._hook("validate", upload)
            self._inspect_if_due(upload)
        self._signal("created", upload)

    def declare(self, upload: Known, length: int) -> None:
        """A length that was deferred: ``validate`` again."""
        if upload.length is not None:
            return
        upload.length = length
        if upload.kind == ORDINARY:
            self._hook("validate", upload)
            self._inspect_if_due(upload)

    def look(self, final: Known) -> None:
        """The members' lengths are added where a request is about the final upload."""
        if final.length is None and _sum(final) is not None:
            final.length = _sum(final)
            self._hook("validate", final)

    def receive(self, upload: Known, data: bytes) -> None:
        """Bytes: ``inspect``, with the request that makes its first bytes whole."""
        if not data:
            return
        upload.content += data
        if upload.kind == ORDINARY:
            self._inspect_if_due(upload)
        self._signal("chunk_received", upload)

    def complete(self, upload: Known, *, answers: bool) -> None:
        """All bytes are there, and a request finishes the upload.

        :param answers: ``on_completion`` shapes the request's answer.
        """
        self.act("complete", upload)
        upload.is_complete = True
        if upload.kind == PARTIAL:
            for final in upload.finals:
                self.assemble(final, answers=False)
            return
        self._hook("verify", upload, upload.content)
        self._signal("completed", upload)
        self._hook("deliver", upload, upload.content)
        if answers:
            self.answer(upload)

    def answer(self, upload: Known) -> None:
        """A request is told that the upload is complete, perhaps once more."""
        if upload.kind != PARTIAL:
            self._hook("on_completion", upload)

    def assemble(self, final: Known, *, answers: bool) -> None:
        """A final upload is made, if all of its members are complete."""
        self.look(final)
        if final.is_complete or not all(one.is_complete for one in final.members):
            return
        if not final.is_all_there or not final.length:
            final.content = b"".join(one.content for one in final.members)
            self._inspect_if_due(final)
            if final.content:
                self._signal("chunk_received", final)
        self.complete(final, answers=answers)

    # -- inside -----------------------------------------------------------------------

    def _inspect_if_due(self, upload: Known) -> None:
        there, length = len(upload.content), upload.length
        if upload.is_inspected or there < min(HEAD, HEAD if length is None else length):
            return
        upload.is_inspected = True
        self._hook("inspect", upload, upload.content[:HEAD])

    def _hook(self, hook: str, upload: Known, data: bytes | None = None) -> None:
        self._notes.hooks.append(Note(hook, upload.kind, upload.length, data))

    def _signal(self, name: str, upload: Known) -> None:
        self._notes.signals.append((name, upload.kind))


def _sum(final: Known) -> int | None:
    lengths = [one.length for one in final.members]
    return None if None in lengths else sum(n for n in lengths if n is not None)
