"""Translation of boto3's errors into the errors of the storage port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...exceptions import BytesMissing, StorageError, StorageFull

#: Error codes for something that does not exist, or is not what was sent. Some servers
#: answer NoSuchKey for a missing multipart upload.
ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload", "InvalidPart"})
#: Error codes of a store without free space.
FULL_STORE = frozenset(
    {"507", "InsufficientStorage", "QuotaExceeded", "EntityTooLarge"}
)


@contextmanager
def translate_boto_errors() -> Iterator[None]:
    """Raise storage errors in place of the errors of boto3 and of connections.

    :raises BytesMissing: the error code is one of :data:`ABSENT`.
    :raises StorageFull: the error code is one of :data:`FULL_STORE`.
    :raises StorageError: any other error of boto3 or of the operating system.
    """
    # Extra: s3. If boto3 is missing, the creation of the client raises an error that
    # says so.
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        yield
        return
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ABSENT:
            raise BytesMissing() from error
        raise (StorageFull() if code in FULL_STORE else StorageError()) from error
    except (BotoCoreError, OSError) as error:
        raise StorageError() from error
