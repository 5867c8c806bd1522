"""Codec of upload ids in URLs and form fields: canonical UUIDs and nothing else."""

from __future__ import annotations

import re
from uuid import UUID

_CANONICAL = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def parse_upload_id(text: str) -> UUID | None:
    """The id in its 36-character hyphenated form (RFC 9562, section 4), any case.

    ``UUID()`` itself also takes braces, ``urn:uuid:``, and hyphens anywhere: several
    URLs for one upload.

    :return: ``None`` for anything else; the caller answers as for an unknown id.
    """
    if not _CANONICAL.fullmatch(text):
        return None
    return UUID(text)
