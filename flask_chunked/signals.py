"""Blinker signals, sent after the commit that they report.

The sender is the application; ``upload=`` is a frozen snapshot. An exception in a
receiver is logged and has no other effect.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

upload_created = _signals.signal("upload-created", "A new upload has a row.")
chunk_received = _signals.signal("chunk-received", "Bytes of a request are committed.")
upload_completed = _signals.signal(
    "upload-completed", "All bytes are stored and verified."
)
upload_terminated = _signals.signal("upload-terminated", "Bytes and row were removed.")
upload_expired = _signals.signal(
    "upload-expired", "The upload was not continued in time."
)
delivery_failed = _signals.signal(
    "delivery-failed", "A call of ``deliver`` raised; it is repeated later."
)

BY_EVENT = {
    "created": upload_created,
    "chunk_received": chunk_received,
    "completed": upload_completed,
    "terminated": upload_terminated,
    "expired": upload_expired,
    "delivery_failed": delivery_failed,
}
