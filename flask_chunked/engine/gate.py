"""The rules of the kinds of uploads: allowed actions, hooks and signals.

The table complements that of the states. The dialects, the engine, the command line and
the Python API ask it what a kind allows. Quotas and expiry use it in SQL.
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

#: The largest length of an upload in bytes. JSON numbers hold it exactly in every
#: language, and sums of lengths do not overflow.
MAX_LENGTH = 2**53 - 1
#: The number of final uploads that may wait for one partial upload.
MAX_WAITING = 8


class Kind(Enum):
    """The kind of an upload (tus 1.0.0, Concatenation)."""

    ORDINARY = "ordinary"
    PARTIAL = "partial"
    FINAL = "final"


class Action(str, Enum):
    """What a request does to an upload; ``authorize`` gets the value."""

    CREATE = "create"
    APPEND = "append"
    COMPLETE = "complete"
    READ = "read"
    LIST = "list"
    DOWNLOAD = "download"
    TERMINATE = "terminate"
    DELETE = "delete"


class Hook(Enum):
    """The application's hooks that concern a file."""

    VALIDATE = "validate"
    INSPECT = "inspect"
    VERIFY = "verify"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind of upload.

    :param writers: dialects that may append and complete; ``None``: every dialect.
    :param hooks: the hooks that are called.
    :param is_file: the upload is listed, downloaded, opened and delivered.
    :param is_material: the upload expires by inactivity and counts as unfinished even
        when it is complete.
    :param signals: the signals that are sent; ``None``: all.
    """

    writers: frozenset[str] | None
    hooks: frozenset[Hook]
    is_file: bool
    is_material: bool
    signals: frozenset[str] | None


_ALL_HOOKS = frozenset(Hook)

#: Kind of upload -> its rules.
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
    """A snapshot, a row of a model, or any object with these attributes."""

    @property
    def partial(self) -> bool:
        """True if it was created as a partial upload."""

    @property
    def concat(self) -> str | None:
        """``Upload-Concat`` as the client sent it."""


def kind_of(upload: HasKind) -> Kind:
    """The upload's kind, which never changes."""
    if upload.partial:
        return Kind.PARTIAL
    return Kind.ORDINARY if upload.concat is None else Kind.FINAL


# Looked up once, because every request needs them several times.
_ORDINARY, _PARTIAL = RULES[Kind.ORDINARY], RULES[Kind.PARTIAL]
_FINAL = RULES[Kind.FINAL]


def rules_of(upload: HasKind) -> Rules:
    """The rules of the upload's kind."""
    if upload.partial:
        return _PARTIAL
    return _ORDINARY if upload.concat is None else _FINAL


def require(upload: Upload, action: Action, dialect: str | None = None) -> None:
    """Refuse an action that the upload's kind does not allow in any state.

    :param dialect: of the request; ``None``: do not check it.
    :raises PartialUpload: a dialect other than tus appends to a partial upload.
    :raises FinalUpload: a request appends to a final upload or completes it.
    :raises UnknownUpload: a request downloads an upload that is not a file.
    """
    rules = rules_of(upload)
    if action is Action.DOWNLOAD and not rules.is_file:
        raise UnknownUpload()
    if action not in (Action.APPEND, Action.COMPLETE) or rules.writers is None:
        return
    if not rules.writers:
        # A complete final upload may only be compared with a checksum, in a dialect
        # that has one for the whole file.
        if dialect == "tus" or action is Action.APPEND or not upload.is_complete:
            raise FinalUpload()
    elif dialect is not None and dialect not in rules.writers:
        raise PartialUpload()


def allows(upload: Upload, action: Action, dialect: str) -> bool:
    """True if :func:`require` allows the action."""
    try:
        require(upload, action, dialect)
    except ChunkedUploadError:
        return False
    return True


def require_file(upload: HasKind) -> None:
    """Refuse to give a partial upload to an application as a file.

    :raises PartialUpload: the upload is partial.
    """
    if not rules_of(upload).is_file:
        raise PartialUpload("A partial upload is not a file; use its final upload")


class Gate:
    """The application's hooks; each is called only for the kinds that have it.

    :param policy: the hooks and limits.
    :param storage: limits the length of an upload.
    """

    def __init__(self, policy: Policy, storage: Storage) -> None:
        self._policy = policy
        self._storage = storage

    # -- lengths and limits ----------------------------------------------------------

    def quota(self, length: int | None) -> Quota | None:
        """The limits for the caller's next upload; ``None``: there are none.

        :raises LengthUndeclared: the length is deferred, bytes are limited, and the
            caller has no largest file size.
        """
        return self._policy.quota(length)

    @property
    def counts_stored(self) -> bool:
        """True if quotas count finished uploads."""
        return self._policy.counts_stored

    def require_length(self, length: int | None, state: State | None = None) -> None:
        """Refuse a length that is too large for the caller or for the storage.

        :param length: bytes; ``None``: not known yet.
        :param state: the storage's state of an upload that exists already.
        :raises TooLarge: the length is above a limit.
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
        """Called before the first byte, and when a deferred length is declared."""
        if Hook.VALIDATE in rules_of(upload).hooks:
            self._policy.validate(upload)

    @property
    def asks_inspect(self) -> bool:
        """True if the application has an ``inspect``."""
        return self._policy.inspects

    @property
    def keeps_partials(self) -> bool:
        """True if partial uploads stay once their final upload is complete."""
        return self._policy.keeps_partials

    def inspects(self, upload: HasKind) -> bool:
        """True if :meth:`inspect` is called with the upload's first bytes."""
        return self._policy.inspects and Hook.INSPECT in rules_of(upload).hooks

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Called once, before the first bytes are committed."""
        if self.inspects(upload):
            self._policy.inspect(upload, head)

    def verifies(self, upload: HasKind) -> bool:
        """True if :meth:`verify` is called before the upload is complete."""
        return self._policy.verifies and Hook.VERIFY in rules_of(upload).hooks

    def verify(self, upload: Upload) -> None:
        """Called when all bytes are stored, before completion is announced."""
        if self.verifies(upload):
            self._policy.verify(upload)

    def delivers(self, upload: HasKind) -> bool:
        """True if the completion of the upload has an event to deliver."""
        return self._policy.delivers and Hook.DELIVER in rules_of(upload).hooks

    def deliver(self, upload: Upload) -> None:
        """Called after completion, at least once."""
        if self.delivers(upload):
            self._policy.deliver(upload)

    # -- signals -----------------------------------------------------------------------

    def is_heard(self, event: str, upload: HasKind) -> bool:
        """True if the kind has the signal and the signal has a receiver."""
        signals = rules_of(upload).signals
        return (signals is None or event in signals) and self._policy.is_heard(event)

    def announce(self, event: str, upload: Upload) -> None:
        """Send a signal after a commit; receivers cannot refuse."""
        signals = rules_of(upload).signals
        if signals is None or event in signals:
            self._policy.announce(event, upload)
