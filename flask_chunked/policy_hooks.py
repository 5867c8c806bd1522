"""The policy of a blueprint as the port of the engine sees it: one call for each hook.

Knows what a hook may leave in the application's session; nothing of HTTP.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .engine.gate import MAX_LENGTH
from .engine.records import Quota, Upload
from .exceptions import LengthUndeclared
from .signals import BY_EVENT

if TYPE_CHECKING:
    from .registration import Registration

logger = logging.getLogger("flask_chunked")


class RegisteredPolicy:
    """The blueprint's hooks as the engine calls them."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._blueprint = registration.blueprint

    def _overrides(self, hook: str) -> bool:
        return self._blueprint.overrides(hook)

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
        quotas = self._registration.quotas
        return quotas is not None and quotas.counts_stored

    @property
    def keeps_partials(self) -> bool:
        """``keep_partials``."""
        return self._registration.settings.keep_partials

    def max_bytes(self) -> int | None:
        """``get_max_bytes()``."""
        if self._overrides("get_max_bytes"):
            return self._blueprint.get_max_bytes()
        return self._registration.settings.max_bytes

    def quota(self, length: int | None) -> Quota | None:
        """The caller's limits, and what an upload of this length counts."""
        if self._registration.quotas is None:
            return None
        most = self._blueprint.get_max_open_uploads()
        most_bytes = self._blueprint.get_max_total_bytes()
        most_stored = self._blueprint.get_max_stored_bytes()
        if (most, most_bytes, most_stored) == (None, None, None):
            return None
        reserve = self._blueprint.get_max_bytes() if length is None else length
        if reserve is None and (most_bytes, most_stored) != (None, None):
            raise LengthUndeclared()
        return Quota(most, most_bytes, min(MAX_LENGTH, reserve or 0), most_stored)

    def validate(self, upload: Upload) -> None:
        """Before the first byte, with a snapshot."""
        if not self._overrides("validate"):
            return
        self._blueprint.validate(upload)
        self._settle("validate()")

    def inspect(self, upload: Upload, head: bytes) -> None:
        """The first bytes, with a snapshot."""
        self._blueprint.inspect(upload, head)
        self._settle("inspect()")

    def verify(self, upload: Upload) -> None:
        """All bytes are there, with an instance."""
        if not self.verifies:
            return
        self._registration.sessions.release("what ran before verify()")
        self._blueprint.verify(self._registration.instance(upload))
        self._settle("verify()")

    def deliver(self, upload: Upload) -> None:
        """Hand the finished upload to the application, with an instance."""
        sessions = self._registration.sessions
        # What a caller has pending is not the hook's to discard.
        sessions.release("what ran before deliver()")
        try:
            self._blueprint.deliver(self._registration.instance(upload))
            sessions.release("deliver()")
        except BaseException:
            sessions.rollback()
            raise

    def _settle(self, hook: str) -> None:
        """Look after what a hook left in the session."""
        sessions = self._registration.sessions
        try:
            sessions.release(hook)
        except RuntimeError:
            # They go with the request anyway; held on to, SQLite would keep us from
            # removing the upload that is given up now.
            sessions.rollback()
            raise

    def is_heard(self, event: str) -> bool:
        """Has the signal a receiver, for whichever application?"""
        return bool(BY_EVENT[event].receivers)

    def announce(self, event: str, upload: Upload) -> None:
        """Send the signal; what receivers raise is logged and changes nothing."""
        signal = BY_EVENT[event]
        app = self._registration.app
        for receiver in signal.receivers_for(app):
            try:
                receiver(app, upload=upload)
            # A receiver cannot refuse: the commit that it is told of is done.
            except Exception:
                logger.exception("receiver of %s failed", signal.name)
