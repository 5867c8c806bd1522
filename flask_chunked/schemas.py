"""The JSON of an upload, as a marshmallow schema.

Knows only attribute names: the blueprint prepares the object to dump.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from marshmallow import EXCLUDE, Schema, fields

if TYPE_CHECKING:
    _DatetimeField = fields.Field[datetime]
else:
    _DatetimeField = fields.Field  # marshmallow 3 has no generic fields


def format_utc(moment: datetime, *, timespec: str = "auto") -> str:
    """Format an aware datetime as ISO 8601 in UTC, with the suffix ``Z``.

    :param timespec: as in :meth:`datetime.datetime.isoformat`.
    """
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return utc.isoformat(timespec=timespec) + "Z"


class UTCTimestamp(_DatetimeField):
    """An aware datetime as ISO 8601 in UTC, always with microseconds and ``Z``.

    :raises ValueError: on dump, for a naive datetime, whose time zone is unknown.
    """

    def _serialize(
        self, value: datetime | None, attr: str | None, obj: object, **kwargs: Any
    ) -> str | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(
                f"{attr} is naive: {value!r}; it must be an aware datetime"
            )
        return format_utc(value, timespec="microseconds")


class ChunkedUploadSchema(Schema):
    """The fields of an upload that clients see. They may set only ``filename``.

    Subclasses add fields for the model's own columns; all other fields must have
    ``dump_only=True``. If a subclass has a ``Meta``, it must derive it from
    ``ChunkedUploadSchema.Meta``: a form also has fields that no schema names, such as
    checksums and CSRF tokens.
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
    length = fields.Integer(dump_only=True)
    digest = fields.String(dump_only=True)
