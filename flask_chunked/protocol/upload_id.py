"""Codec of upload ids in URLs and form fields. Accepts only canonical UUIDs."""

from __future__ import annotations

import re
from uuid import UUID

_CANONICAL = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def parse_upload_id(text: str) -> UUID | None:
    """Parse an id in its 36-character form with hyphens (RFC 9562, section 4).

    Letters may be upper or lower case. ``UUID()`` also accepts braces, ``urn:uuid:``
    and misplaced hyphens, which would give one upload several URLs.

    :return: ``None`` for any other text; the caller answers as for an unknown id.
    """
    if not _CANONICAL.fullmatch(text):
        return None
    return UUID(text)
