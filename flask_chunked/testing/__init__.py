"""Uploads in the tests of an application, through Flask's test client.

``MemoryStorage`` keeps their bytes off the disk; docs/testing.rst describes the rest.
"""

from ..storage.memory import MemoryStorage
from .dialects import DIALECTS, DialectName, UploadOptions, UploadRefused
from .uploads import SentUpload, begin, refusal, upload

__all__ = [
    "DIALECTS",
    "DialectName",
    "MemoryStorage",
    "SentUpload",
    "UploadOptions",
    "UploadRefused",
    "begin",
    "refusal",
    "upload",
]
