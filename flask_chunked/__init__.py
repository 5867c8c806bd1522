"""A Flask blueprint that receives large files in pieces.

Names are imported at their first use, so that the lower layers (``protocol``,
``engine``, ``storage``) can be used without Flask and SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from .policy import UploadPolicy
    from .registration import dispose
    from .schemas import ChunkedUploadSchema
    from .signals import (
        chunk_received,
        delivery_failed,
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
    "UploadPolicy",
    "check",
    "chunk_received",
    "create_tables",
    "delete_expired",
    "delete_upload",
    "deliver_pending",
    "delivery_failed",
    "dispose",
    "upload_completed",
    "upload_created",
    "upload_expired",
    "upload_terminated",
    "uploads",
]

#: Name -> the module that defines it.
_DEFINED_IN = {
    name: module
    for module, names in {
        "blueprint": ("ChunkedUploadBlueprint",),
        "cors": ("CORS_ALLOW_HEADERS", "CORS_ALLOW_METHODS", "CORS_EXPOSE_HEADERS"),
        "engine.records": ("Upload",),
        "engine.states": ("Status",),
        "exceptions": (
            "ChunkedUploadError",
            "ConfigurationError",
            "MissingColumnError",
            "MissingTableError",
        ),
        "maintenance": (
            "check",
            "create_tables",
            "delete_expired",
            "delete_upload",
            "deliver_pending",
            "uploads",
        ),
        "models": ("ChunkedUploadMixin",),
        "policy": ("UploadPolicy",),
        "registration": ("dispose",),
        "schemas": ("ChunkedUploadSchema",),
        "signals": (
            "chunk_received",
            "delivery_failed",
            "upload_completed",
            "upload_created",
            "upload_expired",
            "upload_terminated",
        ),
    }.items()
    for name in names
}


def __getattr__(name: str) -> object:
    module = _DEFINED_IN.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
