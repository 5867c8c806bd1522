"""Reads, validates and documents the keys of ``app.config``."""
