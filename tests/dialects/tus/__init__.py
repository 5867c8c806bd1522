"""Tests of the tus dialect, and the tus client of all tests."""

from .client import BASE, BYTES, CHUNKED, TUS, Tus, checksum, metadata

__all__ = ["BASE", "BYTES", "CHUNKED", "TUS", "Tus", "checksum", "metadata"]
