"""The one gate for policy: which kind of upload allows what, and which hooks it has.

The table stands next to that of the states. Every dialect, the engine, the command line
and the Python API ask here what a kind allows; counting and expiry read it in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Protocol

from ..exceptions import (
    ChunkedUploadError,
    FinalUpload,
    PartialUpload,
    TooLarge,
    UnknownUpload,
)
from ..storage.base import State, Storage
from .ports import Policy
from .records import Quota, Upload

#: The largest length of an upload in bytes: what JSON numbers hold exactly in every
#: language, and far below what sums of lengths can hold.
MAX_LENGTH = 2**53 - 1
#: Final uploads that may wait for one partial upload.
MAX_WAITING = 8


class Kind(Enum):
    """What an upload is for (tus 1.0.0, Concatenation)."""

    ORDINARY = "ordinary"
    PARTIAL = "partial"
    FINAL = "final"


class Action(str, Enum):
    """What a request does to an upload; the value is what ``authorize`` gets."""

    CREATE = "create"
    APPEND = "append"
    COMPLETE = "complete"
    READ = "read"
    LIST = "list"
    DOWNLOAD = "download"
    TERMINATE = "terminate"
    DELETE = "delete"


class Hook(Enum):
    """Questions to the application that concern a file."""

    VALIDATE = "validate"
    INSPECT = "inspect"
    VERIFY = "verify"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one kind of upload.

    :param writers: dialects that may append and complete; ``None``: every dialect.
    :param hooks: that are asked.
    :param is_file: it is listed, downloaded, opened and delivered.
    :param is_material: it expires by inactivity and counts as unfinished also when it
        is complete.
    :param signals: that are sent; ``None``: all.
    """

    writers: frozenset[str] | None
    hooks: frozenset[Hook]
    is_file: bool
    is_material: bool
    signals: frozenset[str] | None


_ALL_HOOKS = frozenset(Hook)

#: Kind of upload -> what holds for it.
RULES: Mapping[Kind, Rules] = MappingProxyType(
    {
        Kind.ORDINARY: Rules(
            writers=None,
            hooks=_ALL_HOOKS,
            is_file=True,
            is_material=False,
            signals=None,
        ),
        Kind.PARTIAL: Rules(
            writers=frozenset({"tus"}),
            hooks=frozenset(),
            is_file=False,
            is_material=True,
            signals=frozenset({"created", "chunk_received", "terminated", "expired"}),
        ),
        Kind.FINAL: Rules(
            writers=frozenset(),
            hooks=_ALL_HOOKS,
            is_file=True,
            is_material=False,
            signals=None,
        ),
    }
)


class HasKind(Protocol):
    """A snapshot, a model's instance, or anything else with these columns."""

    @property
    def partial(self) -> bool:
        """Was it created as a partial upload?"""

    @property
    def concat(self) -> str | None:
        """``Upload-Concat`` as the client sent it."""


def kind_of(upload: HasKind) -> Kind:
    """The kind never changes."""
    if upload.partial:
        return Kind.PARTIAL
    return Kind.ORDINARY if upload.concat is None else Kind.FINAL


# Looked up once: every request asks several times.
_ORDINARY, _PARTIAL = RULES[Kind.ORDINARY], RULES[Kind.PARTIAL]
_FINAL = RULES[Kind.FINAL]


def rules_of(upload: HasKind) -> Rules:
    """What holds for the upload's kind."""
    if upload.partial:
        return _PARTIAL
    return _ORDINARY if upload.concat is None else _FINAL


def require(upload: Upload, action: Action, dialect: str | None = None) -> None:
    """Refuse what the upload's kind does not allow, whatever state it is in.

    :param dialect: that the request speaks; ``None``: any could be it.
    :raises PartialUpload: another dialect than tus appends to a partial upload.
    :raises FinalUpload: bytes for a final upload, or its completion by a request.
    :raises UnknownUpload: the upload is not a file, and its content is asked for.
    """
    rules = rules_of(upload)
    if action is Action.DOWNLOAD and not rules.is_file:
        raise UnknownUpload()
    if action not in (Action.APPEND, Action.COMPLETE) or rules.writers is None:
        return
    if not rules.writers:
        # A complete final upload is compared with a checksum, by the dialect that has
        # one for the whole file, and with nothing else.
        if dialect == "tus" or action is Action.APPEND or not upload.is_complete:
            raise FinalUpload()
    elif dialect is not None and dialect not in rules.writers:
        raise PartialUpload()


def allows(upload: Upload, action: Action, dialect: str) -> bool:
    """Would :func:`require` let it pass?"""
    try:
        require(upload, action, dialect)
    except ChunkedUploadError:
        return False
    return True


def require_file(upload: HasKind) -> None:
    """Refuse to hand a partial upload to an application as a file.

    :raises PartialUpload: it is one.
    """
    if not rules_of(upload).is_file:
        raise PartialUpload("A partial upload is not a file; use its final upload")


class Gate:
    """The application's hooks, each asked only of the kinds that have it.

    :param policy: the hooks.
    :param storage: knows how long an upload may become.
    """

    def __init__(self, policy: Policy, storage: Storage) -> None:
        self._policy = policy
        self._storage = storage

    # -- lengths and limits ----------------------------------------------------------

    def quota(self, length: int | None) -> Quota | None:
        """What holds for the caller's next upload; ``None``: nothing does.

        :raises LengthUndeclared: the length is deferred, bytes are limited, and the
            caller has no largest file.
        """
        return self._policy.quota(length)

    @property
    def counts_stored(self) -> bool:
        """Do finished uploads count in their owners' limits?"""
        return self._policy.counts_stored

    def require_length(self, length: int | None, state: State | None = None) -> None:
        """Refuse a length that is too large for the caller or for the storage.

        :param length: bytes; ``None``: not known yet.
        :param state: the storage's, of an upload that is there already.
        :raises TooLarge: it is.
        """
        if length is None:
            return
        limit = self._policy.max_bytes()
        if limit is not None and length > limit:
            raise TooLarge(limit)
        for limit in (self._storage.max_length(state), MAX_LENGTH):
            if limit is not None and length > limit:
                raise TooLarge(limit, status=413)

    # -- hooks -------------------------------------------------------------------------

    def validate(self, upload: Upload) -> None:
        """Before the first byte, and once more when a deferred length is declared."""
        if Hook.VALIDATE in rules_of(upload).hooks:
            self._policy.validate(upload)

    @property
    def asks_inspect(self) -> bool:
        """Does an application have an ``inspect`` at all?"""
        return self._policy.inspects

    @property
    def keeps_partials(self) -> bool:
        """Do partial uploads stay once their final upload is complete?"""
        return self._policy.keeps_partials

    def inspects(self, upload: HasKind) -> bool:
        """Is :meth:`inspect` to be asked of the upload's first bytes?"""
        return self._policy.inspects and Hook.INSPECT in rules_of(upload).hooks

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Once, when the first bytes are there and before they are committed."""
        if self.inspects(upload):
            self._policy.inspect(upload, head)

    def verifies(self, upload: HasKind) -> bool:
        """Is :meth:`verify` to be asked before the upload is complete?"""
        return self._policy.verifies and Hook.VERIFY in rules_of(upload).hooks

    def verify(self, upload: Upload) -> None:
        """All bytes are there and not yet announced."""
        if self.verifies(upload):
            self._policy.verify(upload)

    def delivers(self, upload: HasKind) -> bool:
        """Does the completion of the upload have an event that is delivered?"""
        return self._policy.delivers and Hook.DELIVER in rules_of(upload).hooks

    def deliver(self, upload: Upload) -> None:
        """After completion, at least once."""
        if self.delivers(upload):
            self._policy.deliver(upload)

    # -- signals -----------------------------------------------------------------------

    def is_heard(self, event: str, upload: HasKind) -> bool:
        """Does an application listen to this signal, and has the kind got it?"""
        signals = rules_of(upload).signals
        return (signals is None or event in signals) and self._policy.is_heard(event)

    def announce(self, event: str, upload: Upload) -> None:
        """After a commit; cannot refuse."""
        signals = rules_of(upload).signals
        if signals is None or event in signals:
            self._policy.announce(event, upload)
