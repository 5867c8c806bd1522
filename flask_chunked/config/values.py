"""Strict parsers for the values of configuration keys.

Each accepts a Python value or a string of the environment; its ValueError lists the
accepted values. Knows neither keys nor defaults.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

Parse = Callable[[object], object]

_MAX_EXPIRATION = timedelta(days=36_500)
_MAX_READ_TIMEOUT = timedelta(days=1)
_MAX_BYTES = 2**63 - 1

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_DURATION = re.compile(
    r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([smhd]?)", re.IGNORECASE | re.ASCII
)
_SIZE = re.compile(r"([0-9]{1,19}) ?(|B|KiB|MiB|GiB|TiB)", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]{1,20}://[a-z0-9.\[\]:_-]{1,255}", re.IGNORECASE | re.ASCII
)
_ORIGINS = (
    "a list, or a comma-separated string, of origins like 'https://app.example' "
    "(scheme, host and port without a path), or '*' alone"
)
_EXTENSION = re.compile(r"[A-Za-z0-9._-]{0,64}")


def _text(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def optional(parse: Parse) -> Parse:
    """A parser that also accepts ``None``, and the empty string for it."""

    def parse_optional(value: object) -> object:
        return None if _text(value) in (None, "") else parse(value)

    return parse_optional


def parse_boolean(value: object) -> bool:
    """Parse a boolean: True, False, 1 or 0, also as text in any case."""
    # Flask's from_prefixed_env() decodes JSON, so that "1" arrives as the int 1.
    if isinstance(value, (bool, int, str)):
        parsed = _BOOLEANS.get(str(value).strip().lower())
        if parsed is not None:
            return parsed
    raise ValueError("true, false, 1 or 0")


def _parse_duration(value: object, most: timedelta) -> timedelta:
    """Parse a timedelta, seconds, or a text with a unit; above 0.

    :param most: the longest duration that is accepted.
    """
    accepted = (
        "a timedelta, seconds or a text like '45s', '30m', '12h' or '1d', "
        f"above 0 and at most {most.days} days"
    )
    try:
        duration = _to_timedelta(_text(value))
    except (OverflowError, ValueError) as error:
        raise ValueError(accepted) from error
    if duration is None or not timedelta(0) < duration <= most:
        raise ValueError(accepted)
    return duration


def _to_timedelta(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2].lower()])


def parse_expiration(value: object) -> timedelta:
    """Parse a duration that is short enough to be added to any current date."""
    return _parse_duration(value, _MAX_EXPIRATION)


def parse_read_timeout(value: object) -> float:
    """Parse a duration; the result is in seconds."""
    return _parse_duration(value, _MAX_READ_TIMEOUT).total_seconds()


def parse_origins(value: object) -> tuple[str, ...]:
    """Parse a list of origins (scheme, host, port), or ``*`` alone."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(_ORIGINS)
    origins = tuple(_text(part) for part in value)
    if origins == ("*",):
        return ("*",)
    found: list[str] = []
    for origin in origins:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ValueError(_ORIGINS)
        found.append(origin.lower())
    return tuple(found)


def parse_count(value: object) -> int:
    """Parse a whole number above 0."""
    text = _text(value)
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 9:
        text = int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 0 < text < 10**9:
        return text
    raise ValueError("a whole number above 0 and below 1000000000")


def parse_size(value: object) -> int:
    """Parse a size; the result is in bytes, above 0."""
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = int(match[1]) * _BYTES[match[2].lower()]
    if not 0 < size <= _MAX_BYTES:
        raise ValueError(
            "a whole number of bytes or a text like '1KiB', '10MiB' or '5GiB', "
            f"above 0 and at most {_MAX_BYTES} bytes"
        )
    return size


def parse_path(value: object) -> str:
    """Parse a ``strftime`` pattern. The directory need not exist."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError("a directory as text, which may have strftime directives")
    try:
        datetime(2000, 1, 1, tzinfo=timezone.utc).strftime(text)
    except ValueError as error:
        raise ValueError("a pattern that strftime supports on this platform") from error
    return text


def parse_checksum(value: object) -> str:
    """Parse the name of a hash algorithm; the result is in lower case."""
    name = value.strip().lower() if isinstance(value, str) else ""
    known = {algorithm.lower() for algorithm in hashlib.algorithms_available}
    try:
        # The digest size 0 means a variable length (shake_128, shake_256).
        fixed = name in known and hashlib.new(name).digest_size > 0
    except ValueError:  # hashlib lists it, but OpenSSL's configuration disables it
        fixed = False
    if not fixed:
        raise ValueError(
            "a hashlib algorithm with a digest of fixed length, such as md5 or sha256"
        )
    return name


def parse_extension(value: object) -> str:
    """Parse a suffix, which may be empty."""
    text = _text(value)
    if not isinstance(text, str) or not _EXTENSION.fullmatch(text):
        raise ValueError("a suffix of at most 64 ASCII letters, digits, '.', '_', '-'")
    return text


def parse_storage_class(value: object) -> object:
    """Parse a class, a factory or a dotted path. A path is not imported yet."""
    name = _text(value)
    if callable(name):
        return name
    if isinstance(name, str):
        parts = name.replace(":", ".", 1).split(".")
        if len(parts) > 1 and all(part.isidentifier() for part in parts):
            return name
    raise ValueError(
        "a class, a factory or a dotted path such as 'package.module.Name'"
    )
