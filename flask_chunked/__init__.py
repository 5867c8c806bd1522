"""A Flask blueprint that receives large files in pieces."""

from .blueprint import ChunkedUploadBlueprint
from .cors import CORS_ALLOW_HEADERS, CORS_ALLOW_METHODS, CORS_EXPOSE_HEADERS
from .engine.records import Upload
from .engine.states import Status
from .exceptions import (
    ChunkedUploadError,
    ConfigurationError,
    MissingColumnError,
    MissingTableError,
)
from .maintenance import (
    check,
    create_tables,
    delete_expired,
    delete_upload,
    deliver_pending,
    uploads,
)
from .models import ChunkedUploadMixin
from .schemas import ChunkedUploadSchema
from .signals import (
    chunk_received,
    upload_completed,
    upload_created,
    upload_expired,
    upload_terminated,
)

__all__ = [
    "CORS_ALLOW_HEADERS",
    "CORS_ALLOW_METHODS",
    "CORS_EXPOSE_HEADERS",
    "ChunkedUploadBlueprint",
    "ChunkedUploadError",
    "ChunkedUploadMixin",
    "ChunkedUploadSchema",
    "ConfigurationError",
    "MissingColumnError",
    "MissingTableError",
    "Status",
    "Upload",
    "check",
    "chunk_received",
    "create_tables",
    "delete_expired",
    "delete_upload",
    "deliver_pending",
    "upload_completed",
    "upload_created",
    "upload_expired",
    "upload_terminated",
    "uploads",
]
