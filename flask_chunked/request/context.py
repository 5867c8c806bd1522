"""What one request's dialect may ask of the blueprint that received it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response, current_app, url_for
from sqlalchemy import Select
from werkzeug.utils import cached_property

from ..config.settings import Settings
from ..database.queries import Page
from ..engine.engine import Engine
from ..engine.gate import Action, rules_of
from ..engine.records import Upload
from ..engine.states import Status
from ..exceptions import ChunkedUploadError, NotAuthorized, OwnerRequired, UnknownUpload
from ..registration import Registration


@dataclass
class RequestHost:
    """What one request's dialect may ask; answers that cost are kept."""

    registration: Registration
    view_args: Mapping[str, object]

    @property
    def engine(self) -> Engine:
        """The registration's engine."""
        return self.registration.engine

    @property
    def settings(self) -> Settings:
        """The registration's configuration."""
        return self.registration.settings

    @property
    def field_name(self) -> str:
        """Name of the file part."""
        return self.registration.blueprint.field_name

    @property
    def max_form_parts(self) -> int:
        """The most parts of a form."""
        return self.registration.blueprint.max_form_parts

    @property
    def checksum_wanted(self) -> bool:
        """``do_checksum_check``."""
        return self.registration.blueprint.do_checksum_check

    @property
    def checksum_in_passing(self) -> str | None:
        """The blueprint's algorithm, where a checksum is wanted."""
        return self.settings.checksum if self.checksum_wanted else None

    @property
    def may_defer_length(self) -> bool:
        """May an upload be created whose length nobody knows yet?"""
        blueprint = self.registration.blueprint
        if self.registration.quotas is None:
            return True
        limits = (blueprint.get_max_total_bytes(), blueprint.get_max_stored_bytes())
        return limits == (None, None) or blueprint.get_max_bytes() is not None

    def max_bytes(self) -> int | None:
        """``get_max_bytes()``."""
        blueprint = self.registration.blueprint
        if blueprint.overrides("get_max_bytes"):
            return blueprint.get_max_bytes()
        return self.settings.max_bytes

    @cached_property
    def _owner(self) -> object:
        owner = self.registration.blueprint.get_user_id()
        # Who has to be looked up holds a pooled connection; with one more for each of
        # our own transactions, many requests at once would wait for one another.
        self.registration.sessions.release_if_clean()
        return self.registration.coerce_owner(owner)

    def owner(self) -> object:
        """The caller; asked once."""
        return self._owner

    def require_owner(self) -> object:
        """The caller, or ``None`` where uploads without an owner are allowed."""
        owner = self.owner()
        if owner is None and not self.settings.allow_anonymous:
            raise OwnerRequired()
        return owner

    def authorize(self, action: Action, upload: Upload | None = None) -> None:
        """Ask ``authorize``; a falsy answer or an error of its own refuses."""
        if not self.registration.blueprint.authorize(action.value, upload):
            raise NotAuthorized()

    @property
    def authorizes(self) -> bool:
        """Is ``authorize`` overridden?"""
        return self.registration.blueprint.overrides("authorize")

    def is_authorized(self, action: Action, upload: Upload) -> bool:
        """Ask ``authorize`` and take its error for a no."""
        try:
            self.authorize(action, upload)
        except ChunkedUploadError:
            return False
        return True

    def find(self, upload_id: UUID | None) -> Upload:
        """Look the upload up among those the caller may see."""
        # Who asks is found out for a malformed id too: reading the session leaves its
        # mark in the answer's headers.
        owner = self.owner()
        if upload_id is None:
            raise UnknownUpload()
        found = self.registration.find(owner, upload_id)
        if found is None:
            raise UnknownUpload()
        return found

    def page(self, page: Page) -> list[Upload]:
        """A page of what the caller may list."""
        return self.registration.repository.page(self._listing(), page)

    def count(self, page: Page) -> int:
        """All of what the caller may list."""
        return self.registration.repository.count(self._listing(), page)

    def _listing(self) -> Select[Any]:
        return self.registration.visible(
            self.registration.blueprint.get_query(), self.owner(), listing=True
        )

    def load_fields(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """Validate a form's fields by the schema."""
        return self.registration.fields.load(form)

    def represent(self, upload: Upload) -> dict[str, object]:
        """Dump the upload by the schema."""
        dumped: dict[str, object] = self.registration.schema.dump(
            Representation(upload, self.url(upload), self.content_url(upload))
        )
        if upload.partial:
            dumped["partial"] = True
        return dumped

    def url(self, upload: Upload) -> str:
        """Absolute URL of the upload."""
        return self._build("upload", upload)

    def content_url(self, upload: Upload) -> str | None:
        """Absolute URL of the content, where there is something to download."""
        if not self.settings.downloads or not upload.is_complete or not upload.blob:
            return None
        if not rules_of(upload).is_file:
            return None
        return self._build("file", upload)

    def collection_url(self) -> str:
        """Absolute URL of the collection."""
        values: dict[str, Any] = {**self.view_args, "_external": True}
        return url_for(f"{self.registration.name}.collection", **values)

    def location(self, upload: Upload) -> str:
        """``Location``: the path, unless the blueprint wants absolute ones."""
        if self.registration.blueprint.absolute_location:
            return self.url(upload)
        url = self._build("upload", upload, external=False)
        is_path = url.startswith("/") and not url.startswith("//") and "?" not in url
        return url if is_path else urlsplit(url).path

    def _build(self, endpoint: str, upload: Upload, *, external: bool = True) -> str:
        values: dict[str, Any] = {
            **self.view_args,
            "upload_id": str(upload.id),
            "_external": external,
        }
        return url_for(f"{self.registration.name}.{endpoint}", **values)

    def completion_response(self, upload: Upload) -> Response | None:
        """What ``on_completion`` answers, as a response."""
        if not self.registration.blueprint.overrides("on_completion"):
            return None
        instance = self.registration.instance(upload)
        answer = self.registration.blueprint.on_completion(instance)
        response = None if answer is None else current_app.make_response(answer)
        # Whoever still holds a connection at the request's end fails there, behind the
        # answer, where the connection was lost meanwhile.
        self.registration.sessions.release_if_clean()
        return response

    def release_session(self) -> None:
        """No pooled connection waits for the client, no lock for ourselves."""
        self.registration.sessions.release("what ran before the upload was touched")


class Representation:
    """An upload as the schema sees it: its row, its URLs, its status as a number."""

    def __init__(self, upload: Upload, url: str, file: str | None) -> None:
        self._upload = upload
        self.url = url
        self.file = file
        self.status = 2 if upload.status is Status.COMPLETE else 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._upload, name)
