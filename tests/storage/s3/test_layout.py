"""Where the bytes of an S3 upload are."""

from __future__ import annotations

from flask_chunked.storage.base import Blob
from flask_chunked.storage.s3.plan import MIB

from .names import KEY, new_storage


def test_part_size_is_fixed_when_the_upload_is_created() -> None:
    large = new_storage().new_state(100 * 2**30)
    later = new_storage(part_size=64 * MIB)
    assert later.layout.state_of(Blob(KEY, 0, large)).part_size == 12 * MIB
    assert later.layout.state_of(Blob(KEY, 0)).part_size == 64 * MIB
