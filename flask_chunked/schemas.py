"""The JSON of an upload, as marshmallow schemas.

Knows attribute names only: the object to dump is prepared by the blueprint.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from marshmallow import EXCLUDE, Schema, fields

if TYPE_CHECKING:
    _DatetimeField = fields.Field[datetime]
else:
    _DatetimeField = fields.Field  # marshmallow 3 has no generic fields


class UTCTimestamp(_DatetimeField):
    """An aware datetime as ISO 8601 in UTC, microseconds and ``Z`` always there.

    ``None`` stays ``None``.

    :raises ValueError: on dump, for a naive datetime: its zone would be a guess.
    """

    def _serialize(
        self, value: datetime | None, attr: str | None, obj: object, **kwargs: Any
    ) -> str | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{attr}: naive datetime {value!r}, aware expected")
        utc = value.astimezone(timezone.utc).replace(tzinfo=None)
        return utc.isoformat(timespec="microseconds") + "Z"


class ChunkedUploadSchema(Schema):
    """What a client sees of an upload; ``filename`` alone may be sent.

    Subclasses add fields for the model's own columns; fields for anything else must
    have ``dump_only=True``. A subclass with a ``Meta`` of its own must derive it from
    ``ChunkedUploadSchema.Meta``: a form also carries checksums and CSRF tokens, which
    no schema names.
    """

    class Meta(Schema.Meta):
        unknown = EXCLUDE

    id = fields.UUID(dump_only=True)
    url = fields.String(dump_only=True)
    file = fields.String(dump_only=True)
    filename = fields.String()
    offset = fields.Integer(dump_only=True)
    created_at = UTCTimestamp(dump_only=True)
    status = fields.Integer(dump_only=True)
    completed_at = UTCTimestamp(dump_only=True)
    user = fields.Raw(dump_only=True)
