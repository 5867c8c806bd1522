"""What the model is made of: an upload as it must be, sums, refusals."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

ORDINARY, PARTIAL, FINAL = "ordinary", "partial", "final"
UPLOADING, COMPLETE, EXPIRED = "uploading", "complete", "expired"


class Refused(Exception):
    """The server refuses, with this code of its errors.

    :param status: where a hook chose it; else it follows from code and dialect.
    """

    def __init__(self, code: str, status: int | None = None, **told: object) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.told = told


@dataclass(eq=False, slots=True)
class Upload:
    """An upload as it must be.

    :ivar reserve: bytes that it counts while its length is not known.
    :ivar gone: its row was removed.
    :ivar pending: its completion event is not delivered.
    """

    kind: str
    user: str | None
    filename: str
    length: int | None
    created: datetime
    active: datetime
    dialect: str
    metadata: str = ""
    concat: str | None = None
    members: list[Upload] = field(default_factory=list)
    title: str | None = None
    id: str | None = None
    content: bytes = b""
    status: str = UPLOADING
    reserve: int = 0
    last_start: int | None = None
    inspected: bool = False
    completed: datetime | None = None
    pending: bool = False
    attempts: int = 0
    delivery_started: datetime | None = None
    gone: bool = False

    @property
    def offset(self) -> int:
        """Bytes committed."""
        return len(self.content)

    @property
    def size(self) -> int:
        """What it counts: its length, or what is reserved for it."""
        return self.reserve if self.length is None else self.length

    @property
    def is_unfinished(self) -> bool:
        """Does it expire: open, or a partial upload?"""
        if self.gone or self.status == EXPIRED:
            return False
        return self.status == UPLOADING or self.kind == PARTIAL

    @property
    def waits(self) -> bool:
        """Is it a final upload that is still to be made?"""
        return self.kind == FINAL and self.status == UPLOADING and not self.gone

    @property
    def may_be_made(self) -> bool:
        """Are all its members there?"""
        return not any(one.gone or one.status == EXPIRED for one in self.members)

    @property
    def md5(self) -> str:
        """The digest that completes it."""
        return hashlib.md5(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Sums:
    """What an owner's uploads count.

    :param uploads: unfinished ones.
    :param size: bytes of these.
    :param stored: the same, and bytes of files and of partials that are kept.
    """

    uploads: int
    size: int
    stored: int
