"""Bodies that hold fields and no file: urlencoded forms and JSON objects."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from ..exceptions import MalformedBody
from .context import UploadRequest

#: Bytes of all text fields of a form together.
MAX_FIELDS_SIZE = 64 * 2**10
#: The most fields of an urlencoded form.
MAX_FIELDS = 1000

#: Content-Types of forms that cannot carry a file.
FIELD_TYPES = ("application/x-www-form-urlencoded", "application/json")


def read_fields(request: UploadRequest) -> Mapping[str, str]:
    """The fields of an urlencoded or JSON body; of any other type, none.

    :raises MalformedBody: the body is too large, or not of its Content-Type.
    """
    http = request.http
    mimetype = http.mimetype
    if mimetype not in FIELD_TYPES:
        return {}
    buffer = memoryview(bytearray(MAX_FIELDS_SIZE + 1))
    size = 0
    while count := request.body.read_into(buffer[size:]):
        size += count
        if size > MAX_FIELDS_SIZE:
            raise MalformedBody(
                f"Form fields are larger than {MAX_FIELDS_SIZE} bytes", status=413
            )
    # Let the request keep the body, so that hooks find it in ``form``, ``json`` and
    # ``data`` as in any other view.
    http.stream = io.BytesIO(buffer[:size])
    http.get_data()
    try:
        text = str(buffer[:size], "utf-8")
        if mimetype == "application/json":
            return _json_fields(text)
        return dict(
            parse_qsl(
                text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
            )
        )
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"Malformed {mimetype} body") from error


def _json_fields(text: str) -> Mapping[str, str]:
    if not text.strip():
        return {}
    value = json.loads(text)
    if not isinstance(value, dict):
        raise MalformedBody("JSON body must be an object")
    return {
        name: item if isinstance(item, str) else json.dumps(item)
        for name, item in value.items()
        if item is not None
    }
