"""The policy of a blueprint as the engine's port: one method for each hook.

Knows what a hook may leave in the application's session, and nothing of HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flask import Flask

from .config.settings import Settings
from .database.quotas import QuotaTable
from .database.session_guard import SessionGuard
from .engine.gate import MAX_LENGTH
from .engine.records import Quota, Upload
from .exceptions import LengthUndeclared
from .models.columns import Ownership
from .policy import UploadPolicy
from .signals import BY_EVENT
from .storage.base import Place

logger = logging.getLogger("flask_chunked")


class PolicyHooks:
    """The hooks of a policy as the engine calls them.

    :param quotas: counts uploads of owners; ``None``: no limit is set.
    :param app: sender of the signals.
    :param instance: loads an upload's model instance into ``db.session``.
    """

    def __init__(
        self,
        policy: UploadPolicy,
        settings: Settings,
        sessions: SessionGuard,
        quotas: QuotaTable | None,
        app: Flask,
        instance: Callable[[Upload], Any],
    ) -> None:
        self._policy = policy
        self._settings = settings
        self._sessions = sessions
        self._quotas = quotas
        self._app = app
        self._instance = instance
        #: The columns that ``get_fields`` may set, once they were needed.
        self._own: Collection[str] | None = None
        self._overrides = policy.overrides

    @property
    def inspects(self) -> bool:
        """True if ``inspect`` is overridden."""
        return self._overrides("inspect")

    @property
    def verifies(self) -> bool:
        """True if ``verify`` is overridden."""
        return self._overrides("verify")

    @property
    def delivers(self) -> bool:
        """True if ``deliver`` is overridden."""
        return self._overrides("deliver")

    @property
    def counts_stored(self) -> bool:
        """True if a limit counts finished uploads."""
        return self._quotas is not None and self._quotas.counts_stored

    @property
    def keeps_partials(self) -> bool:
        """The setting ``keep_partials``."""
        return self._settings.keep_partials

    def max_bytes(self) -> int | None:
        """The limit of ``get_max_bytes()``."""
        if self._overrides("get_max_bytes"):
            return self._policy.get_max_bytes()
        return self._settings.max_bytes

    def quota(self, length: int | None) -> Quota | None:
        """The caller's limits, and what an upload of this length counts.

        :param length: bytes; ``None``: deferred.
        :raises LengthUndeclared: bytes are limited, and no length can be assumed.
        """
        if self._quotas is None:
            return None
        most = self._policy.get_max_open_uploads()
        most_bytes = self._policy.get_max_total_bytes()
        most_stored = self._policy.get_max_stored_bytes()
        if (most, most_bytes, most_stored) == (None, None, None):
            return None
        reserve = self._policy.get_max_bytes() if length is None else length
        if reserve is None and (most_bytes, most_stored) != (None, None):
            raise LengthUndeclared()
        return Quota(most, most_bytes, min(MAX_LENGTH, reserve or 0), most_stored)

    def fields(self) -> Mapping[str, object]:
        """The values of ``get_fields()``.

        :raises RuntimeError: one is for no column of the application's own.
        """
        if not self._overrides("get_fields"):
            return {}
        given = self._policy.get_fields()
        self._release_session("get_fields()")
        if not isinstance(given, Mapping):
            raise RuntimeError(
                f"get_fields() returned {type(given).__name__}; return a dict of "
                "column names and values"
            )
        if self._own is None:
            here = self._policy.registration
            self._own = Ownership(here.model, self._policy.user_field_name).own
        stray = sorted(repr(name) for name in given if name not in self._own)
        if stray:
            columns = ", ".join(sorted(self._own)) or "none"
            raise RuntimeError(
                f"get_fields() returned values for {', '.join(stray)}, but the model's "
                f"own columns are: {columns}. Add the columns to the model, or return "
                "only values of own columns"
            )
        return given

    @property
    def places(self) -> bool:
        """True if ``get_path`` or ``new_name`` is overridden."""
        return self._overrides("get_path") or self._overrides("new_name")

    def place(self, upload: Upload) -> Place:
        """What ``get_path`` and ``new_name`` return for a new upload.

        :raises InvalidPlace: a name is not allowed.
        """
        directory = self._policy.get_path(upload)
        name = self._policy.new_name(upload)
        self._release_session("get_path() or new_name()")
        return Place.from_names(directory, name)

    def validate(self, upload: Upload) -> None:
        """Call ``validate`` with a snapshot."""
        if not self._overrides("validate"):
            return
        self._policy.validate(upload)
        self._release_session("validate()")

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Call ``inspect`` with a snapshot and the first bytes."""
        self._policy.inspect(upload, head)
        self._release_session("inspect()")

    def verify(self, upload: Upload) -> None:
        """Call ``verify`` with an instance of the model."""
        if not self.verifies:
            return
        self._sessions.release("what ran before verify()")
        self._policy.verify(self._instance(upload))
        self._release_session("verify()")

    def deliver(self, upload: Upload) -> None:
        """Call ``deliver`` with an instance of the model."""
        # Release first: a rollback must not discard what the caller has pending.
        self._sessions.release("what ran before deliver()")
        try:
            self._policy.deliver(self._instance(upload))
            self._sessions.release("deliver()")
        except BaseException:
            self._sessions.rollback()
            raise

    def _release_session(self, hook: str) -> None:
        """Release what the hook left in the session; roll uncommitted writes back.

        :raises RuntimeError: the hook left uncommitted writes.
        """
        try:
            self._sessions.release(hook)
        except RuntimeError:
            # The end of the request would roll them back anyway. Roll back now, so that
            # SQLite's write lock does not block the removal of this upload.
            self._sessions.rollback()
            raise

    def is_heard(self, event: str) -> bool:
        """True if the signal has a receiver, for any application."""
        return bool(BY_EVENT[event].receivers)

    def announce(self, event: str, upload: Upload) -> None:
        """Send the signal; an exception of a receiver is only logged."""
        signal = BY_EVENT[event]
        app = self._app
        for receiver in signal.receivers_for(app):
            try:
                receiver(app, upload=upload)
            # A receiver cannot refuse: the commit that it hears of is done.
            except Exception:
                logger.exception("receiver of %s failed", signal.name)
