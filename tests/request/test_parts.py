"""The file part of a form."""

from __future__ import annotations

import hashlib

from flask_chunked.engine.digest_thread import WORTH
from flask_chunked.request.parts import FilePart, PartLimits


def test_no_block_is_held_when_more_arrived_than_is_kept() -> None:
    block = bytes(range(256)) * (WORTH // 256)
    part = FilePart(None, PartLimits(keep=WORTH))
    part.write(block)
    assert part.holds_block
    part.write(block)
    assert not part.holds_block
    assert part.digest == hashlib.sha256(block).hexdigest()
    part.close()
