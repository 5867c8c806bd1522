"""Translation of operating system errors into storage errors."""

from __future__ import annotations

import errno

import pytest

from flask_chunked.exceptions import BytesMissing, StorageError, StorageFull
from flask_chunked.storage.os_errors import translate_os_errors


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(OSError(errno.ENOSPC, "full"), StorageFull, id="no-space"),
        pytest.param(OSError(errno.EDQUOT, "full"), StorageFull, id="quota"),
        pytest.param(OSError(errno.EFBIG, "large"), StorageFull, id="size-limit"),
        pytest.param(OSError(errno.EIO, "lost"), StorageError, id="other"),
        pytest.param(FileNotFoundError("gone"), StorageError, id="subclass"),
    ],
)
def test_os_error_becomes_a_storage_error(
    raised: OSError, expected: type[StorageError]
) -> None:
    with pytest.raises(StorageError) as caught, translate_os_errors():
        raise raised
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [BytesMissing(), ValueError("no I/O")])
def test_other_errors_pass_unchanged(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, translate_os_errors():
        raise raised
    assert caught.value is raised
