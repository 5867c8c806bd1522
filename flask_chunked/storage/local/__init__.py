"""Uploads as files of a local disk."""

from .storage import LocalStorage

__all__ = ["LocalStorage"]
