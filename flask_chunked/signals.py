"""Blinker signals, sent after the commit they tell of; receivers cannot refuse.

Each is sent with the application as sender and ``upload=``, a frozen snapshot.
A receiver that raises is logged and changes nothing.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

upload_created = _signals.signal("upload-created", "A new upload has its row.")
chunk_received = _signals.signal("chunk-received", "Bytes of a request are committed.")
upload_completed = _signals.signal("upload-completed", "All bytes are there, checked.")
upload_terminated = _signals.signal("upload-terminated", "Bytes and row were removed.")
upload_expired = _signals.signal("upload-expired", "Time gave the upload up.")

BY_EVENT = {
    "created": upload_created,
    "chunk_received": chunk_received,
    "completed": upload_completed,
    "terminated": upload_terminated,
    "expired": upload_expired,
}
