"""Removing files of the local storage: of deleted uploads, of orphans, and stages.

Knows the names of an upload's files and their locks; nothing of the database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from ...exceptions import StorageBusy, StorageError
from .files import close_file, sync_directory, unlink_name
from .lock import LockedFile, LockTimeout
from .paths import STAGING, FilePaths, Tree

_STAGE_NAME = re.compile(r"[0-9a-f]{32}")


def unlink_names(directory: int, paths: FilePaths, *, durable: bool) -> None:
    """Remove both names of an upload's file from its directory."""
    # In this order: a concurrent finalize() renames the file from the first name to the
    # second.
    for name in (paths.unfinished, paths.finished):
        unlink_name(directory, name)
    if durable:
        sync_directory(directory)


def unlink_under_lock(
    file: LockedFile, directory: int, paths: FilePaths, *, durable: bool
) -> None:
    """Remove both names of an upload's file, if possible under its lock."""
    # Wait for a running section, whose take() would restore the name. A holder that is
    # suspended, or a name that is a symbolic link, does not prevent the removal.
    with suppress(OSError, StorageBusy):
        file.lock(create=False)
    unlink_names(directory, paths, durable=durable)


def sync_removals(tree: Tree, places: Iterable[tuple[str, ...]]) -> None:
    """Sync directories from which names were removed, and remove those that are empty.

    :param places: the names of each directory, from the root down.
    """
    for names in places:
        with suppress(FileNotFoundError):
            directory = tree.open_directory(names)
            try:
                if tree.durable:
                    sync_directory(directory)
            finally:
                close_file(directory)
            tree.prune(names)


def unlink_second_name(tree: Tree, paths: FilePaths) -> None:
    """Remove the unfinished name of a finished file, if the file still has it."""
    if paths.finished == paths.unfinished:
        return
    directory = tree.open_directory(paths.directories)
    try:
        unlink_name(directory, paths.unfinished)
    finally:
        close_file(directory)


def discard_orphan(tree: Tree, paths: FilePaths, is_needed: Callable[[], bool]) -> bool:
    """Remove the files of a key that has no row.

    :param is_needed: called when both names are locked.
    :return: ``False`` if the files are locked or needed.
    """
    with ExitStack() as held, suppress(FileNotFoundError):
        directory = tree.open_directory(paths.directories)
        held.callback(close_file, directory)
        try:
            _lock_names(tree, paths, held)
        except StorageBusy:
            return False
        if is_needed():
            return False
        unlink_names(directory, paths, durable=tree.durable)
        tree.prune(paths.directories)
    return True


def discard_stage(tree: Tree, name: str) -> bool:
    """Remove a stage whose owner died.

    :return: ``False`` if its owner lives.
    :raises StorageError: not the name of a stage.
    """
    if not _STAGE_NAME.fullmatch(name):
        raise StorageError("Not the name of a stage")
    with LockedFile(tree, (STAGING,), name, LockTimeout(0)) as file:
        try:
            file.lock(create=False)
            os.unlink(name, dir_fd=file.directory)
        except StorageBusy:
            return False
        except FileNotFoundError:
            pass
    return True


def _lock_names(tree: Tree, paths: FilePaths, held: ExitStack) -> None:
    """Lock the files that both names refer to, until ``held`` is closed.

    :raises StorageBusy: another process has locked one of them.
    """
    locked: list[LockedFile] = []
    for name in dict.fromkeys((paths.unfinished, paths.finished)):
        file = held.enter_context(
            LockedFile(tree, paths.directories, name, LockTimeout(0))
        )
        # A name that does not exist or is a symbolic link needs no lock.
        with suppress(OSError):
            file.open(create=False)
            if not any(file.is_same_file(other) for other in locked):
                file.lock(create=False)
                locked.append(file)
