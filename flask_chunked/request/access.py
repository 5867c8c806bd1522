"""The caller of a request, and what the policy lets them do and see."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select
from werkzeug.utils import cached_property

from ..database.queries import Page
from ..engine.gate import Action
from ..engine.records import Upload
from ..exceptions import ChunkedUploadError, NotAuthorized, OwnerRequired, UnknownUpload
from ..registration import Registration


class Access:
    """The caller of one request, and the policy's answers about them."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    @cached_property
    def owner(self) -> object:
        """The caller; ``None`` if they are unknown. The policy is asked once."""
        owner = self._registration.policy.get_user_id()
        # Looking up a user takes a pooled connection. If every request held one while
        # waiting for a second one, for our own transactions, all would wait forever.
        self._registration.sessions.release_if_clean()
        return self._registration.coerce_owner(owner)

    def require_owner(self) -> object:
        """The owner of an upload that is to be created.

        :raises OwnerRequired: the caller is unknown, and anonymous uploads are off.
        """
        if self.owner is None and not self._registration.settings.allow_anonymous:
            raise OwnerRequired()
        return self.owner

    def max_bytes(self) -> int | None:
        """The largest file for this caller in bytes; ``None``: no limit."""
        return self._registration.hooks.max_bytes()

    @property
    def may_defer_length(self) -> bool:
        """True if an upload may be created without its length."""
        policy = self._registration.policy
        if self._registration.quotas is None:
            return True
        limits = (policy.get_max_total_bytes(), policy.get_max_stored_bytes())
        return limits == (None, None) or policy.get_max_bytes() is not None

    def authorize(self, action: Action, upload: Upload | None = None) -> None:
        """Ask ``authorize``.

        :raises NotAuthorized: the answer is false.
        :raises ChunkedUploadError: the hook's own refusal.
        """
        if not self._registration.policy.authorize(action.value, upload):
            raise NotAuthorized()

    @property
    def authorizes(self) -> bool:
        """True if the application overrides ``authorize``."""
        return self._registration.policy.overrides("authorize")

    def is_authorized(self, action: Action, upload: Upload) -> bool:
        """Ask ``authorize``; a refusal of any kind is ``False``."""
        try:
            self.authorize(action, upload)
        except ChunkedUploadError:
            return False
        return True

    def find(self, upload_id: UUID | None) -> Upload:
        """The upload, if the caller may see it.

        :param upload_id: ``None`` for a malformed id.
        :raises UnknownUpload: for unknown, malformed and foreign ids alike.
        """
        # Look up the owner for a malformed id, too: reading the session adds a ``Vary``
        # header, and the answers must not differ.
        owner = self.owner
        if upload_id is None:
            raise UnknownUpload()
        found = self._registration.find(owner, upload_id)
        if found is None:
            raise UnknownUpload()
        return found

    def page(self, page: Page) -> list[Upload]:
        """A page of the caller's uploads."""
        return self._registration.repository.page(self._listing(), page)

    def count(self, page: Page) -> int:
        """The number of uploads on all pages."""
        return self._registration.repository.count(self._listing(), page)

    def _listing(self) -> Select[Any]:
        return self._registration.visible(
            self._registration.policy.get_query(), self.owner, listing=True
        )
