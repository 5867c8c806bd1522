"""Translation of operating system errors into the errors of the storage port."""

from __future__ import annotations

import errno
from types import TracebackType

from ..exceptions import StorageError, StorageFull

#: Error numbers of a disk without space, an exhausted quota, and a file size limit.
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class translate_os_errors:
    """Context manager that raises storage errors in place of :class:`OSError`.

    A class with two methods is faster than a generator.

    :raises StorageFull: the error number is one of :data:`FULL_DISK`.
    :raises StorageError: any other :class:`OSError`.
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
        if not isinstance(error, OSError):
            return
        if error.errno in FULL_DISK:
            raise StorageFull() from error
        raise StorageError() from error
