"""The model of an upload. Generated migrations import its column type from here."""

from .mixin import (
    CORE_COLUMNS,
    ChunkedUploadMixin,
    UTCDateTime,
    add_owner_index,
    default_model,
)

__all__ = [
    "CORE_COLUMNS",
    "ChunkedUploadMixin",
    "UTCDateTime",
    "add_owner_index",
    "default_model",
]
