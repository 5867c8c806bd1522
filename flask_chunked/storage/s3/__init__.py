"""Uploads as objects of a bucket: Amazon S3 and what speaks like it."""

from .storage import S3Storage

__all__ = ["S3Storage"]
