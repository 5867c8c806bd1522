"""An upload as its clients see it: URLs, JSON and the answer to its completion."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Response, current_app, url_for

from ..engine.gate import rules_of
from ..engine.records import Upload
from ..engine.states import Status
from ..exceptions import UnknownUpload
from ..registration import Registration

logger = logging.getLogger("flask_chunked")

#: RFC 3986, section 2: what a URL has besides letters and digits, encoded bytes too.
_URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=-._~"


class Representation:
    """Represents uploads in the answers to one request.

    :param view_args: of the request's URL; the URLs in answers need the same ones.
    """

    def __init__(
        self, registration: Registration, view_args: Mapping[str, object]
    ) -> None:
        self._registration = registration
        self._view_args = view_args

    def to_json(self, upload: Upload) -> dict[str, object]:
        """The upload, dumped by the policy's schema."""
        dumped: dict[str, object] = self._registration.schema.dump(
            _SchemaView(upload, self.url(upload), self.content_url(upload))
        )
        if upload.partial:
            dumped["partial"] = True
        return dumped

    def url(self, upload: Upload) -> str:
        """The upload's absolute URL."""
        return self._build("upload", upload)

    def content_url(self, upload: Upload) -> str | None:
        """The absolute URL of the content; ``None`` if it cannot be downloaded."""
        settings = self._registration.settings
        if not settings.downloads or not upload.is_complete or not upload.blob:
            return None
        if not rules_of(upload).is_file:
            return None
        return self._build("file", upload)

    def collection_url(self) -> str:
        """The collection's absolute URL."""
        return self._url_of("collection", _external=True)

    def location(self, upload: Upload) -> str:
        """The value of ``Location``: a path; an absolute URL if the policy says so."""
        if self._registration.policy.absolute_location:
            return self.url(upload)
        url = self._build("upload", upload, external=False)
        is_path = url.startswith("/") and not url.startswith("//") and "?" not in url
        return url if is_path else urlsplit(url).path

    def completion_response(self, upload: Upload) -> Response | None:
        """The answer of ``on_completion``; ``None``: the dialect's own.

        :raises Aborted: the hook has raised an ``HTTPException``.
        """
        registration = self._registration
        if not registration.policy.overrides("on_completion"):
            return None
        try:
            try:
                instance = registration.instance(upload)
            except UnknownUpload:
                # deliver() has removed it.
                return None
            answer = registration.calls("on_completion", instance)
            return None if answer is None else current_app.make_response(answer)
        finally:
            # Return the pooled connection now: at teardown, a connection that was lost
            # would raise after the response was built.
            if not registration.sessions.release_if_clean():
                logger.error(
                    "on_completion() has left uncommitted writes in db.session, which "
                    "are rolled back: call db.session.commit()"
                )
                registration.sessions.rollback()

    def _build(self, endpoint: str, upload: Upload, *, external: bool = True) -> str:
        return self._url_of(endpoint, upload_id=str(upload.id), _external=external)

    def _url_of(self, endpoint: str, **more: Any) -> str:
        values: dict[str, Any] = {**self._view_args, **more}
        url = url_for(f"{self._registration.name}.{endpoint}", **values)
        # Werkzeug does not encode the mount point (SCRIPT_NAME).
        return quote(url, safe=_URL_CHARACTERS)


class _SchemaView:
    """The object that the schema dumps: the row, its URLs, its status as a number."""

    def __init__(self, upload: Upload, url: str, file: str | None) -> None:
        self._upload = upload
        self.url = url
        self.file = file
        self.status = 2 if upload.status is Status.COMPLETE else 1

    def __getattr__(self, name: str) -> object:
        # marshmallow asks every object for ``__getitem__``, once for each field.
        if name == "__getitem__":
            raise AttributeError(name)
        return getattr(self._upload, name)
