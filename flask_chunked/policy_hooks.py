"""The policy of a blueprint as the port of the engine sees it: one call for each hook.

Knows what a hook may leave in the application's session; nothing of HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Flask

from .config.settings import Settings
from .database.quotas import QuotaTable
from .database.session_guard import SessionGuard
from .engine.gate import MAX_LENGTH
from .engine.records import Quota, Upload
from .exceptions import LengthUndeclared
from .policy import UploadPolicy
from .signals import BY_EVENT

logger = logging.getLogger("flask_chunked")


class PolicyHooks:
    """The hooks of a policy as the engine calls them.

    :param quotas: what counts uploads for owners, if a limit is set.
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

    def _overrides(self, hook: str) -> bool:
        return self._policy.overrides(hook)

    @property
    def inspects(self) -> bool:
        """Is ``inspect`` overridden?"""
        return self._overrides("inspect")

    @property
    def verifies(self) -> bool:
        """Is ``verify`` overridden?"""
        return self._overrides("verify")

    @property
    def delivers(self) -> bool:
        """Is ``deliver`` overridden?"""
        return self._overrides("deliver")

    @property
    def counts_stored(self) -> bool:
        """Does a limit count finished uploads?"""
        return self._quotas is not None and self._quotas.counts_stored

    @property
    def keeps_partials(self) -> bool:
        """``keep_partials``."""
        return self._settings.keep_partials

    def max_bytes(self) -> int | None:
        """``get_max_bytes()``."""
        if self._overrides("get_max_bytes"):
            return self._policy.get_max_bytes()
        return self._settings.max_bytes

    def quota(self, length: int | None) -> Quota | None:
        """The caller's limits, and what an upload of this length counts."""
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

    def validate(self, upload: Upload) -> None:
        """Before the first byte, with a snapshot."""
        if not self._overrides("validate"):
            return
        self._policy.validate(upload)
        self._settle("validate()")

    def inspect(self, upload: Upload, head: bytes) -> None:
        """The first bytes, with a snapshot."""
        self._policy.inspect(upload, head)
        self._settle("inspect()")

    def verify(self, upload: Upload) -> None:
        """All bytes are there, with an instance."""
        if not self.verifies:
            return
        self._sessions.release("what ran before verify()")
        self._policy.verify(self._instance(upload))
        self._settle("verify()")

    def deliver(self, upload: Upload) -> None:
        """Hand the finished upload to the application, with an instance."""
        # What a caller has pending is not the hook's to discard.
        self._sessions.release("what ran before deliver()")
        try:
            self._policy.deliver(self._instance(upload))
            self._sessions.release("deliver()")
        except BaseException:
            self._sessions.rollback()
            raise

    def _settle(self, hook: str) -> None:
        """Look after what a hook left in the session."""
        try:
            self._sessions.release(hook)
        except RuntimeError:
            # They go with the request anyway; held on to, SQLite would keep us from
            # removing the upload that is given up now.
            self._sessions.rollback()
            raise

    def is_heard(self, event: str) -> bool:
        """Has the signal a receiver, for whichever application?"""
        return bool(BY_EVENT[event].receivers)

    def announce(self, event: str, upload: Upload) -> None:
        """Send the signal; what receivers raise is logged and changes nothing."""
        signal = BY_EVENT[event]
        app = self._app
        for receiver in signal.receivers_for(app):
            try:
                receiver(app, upload=upload)
            # A receiver cannot refuse: the commit that it is told of is done.
            except Exception:
                logger.exception("receiver of %s failed", signal.name)
