"""Translation of operating system errors into the errors of the storage port."""

from __future__ import annotations

import errno
from types import TracebackType

from ..exceptions import StorageError, StorageFull

#: Error numbers of a disk without space, an exhausted quota, and a file size limit.
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(error: OSError) -> StorageError:
    """The storage's error for an error of the operating system."""
    return StorageFull() if error.errno in FULL_DISK else StorageError()


class translate_os_errors:
    """Context manager that raises storage errors in place of :class:`OSError`.

    A class with two methods is faster than a generator.

    :raises StorageError: as :func:`storage_error` chooses.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise storage_error(error) from error
