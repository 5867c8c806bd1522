"""tus: what an upload's creation and completion answer."""

from __future__ import annotations

from flask import Response

from ...engine.records import Upload
from ...request.context import UploadRequest
from ..resources import empty


def created(request: UploadRequest, upload: Upload) -> Response:
    """The answer to a creation: 201 and where the upload is."""
    response = completion_answer(request, upload, 201)
    response.headers["Location"] = request.representation.location(upload)
    return response


def completion_answer(request: UploadRequest, upload: Upload, status: int) -> Response:
    """What ``on_completion`` wants to say, else an empty answer with the status."""
    custom = None
    if upload.is_complete and not upload.partial:
        custom = request.representation.completion_response(upload)
    return empty(status) if custom is None else custom
