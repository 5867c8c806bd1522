"""The values that each key accepts and refuses, from Python and as text."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import PurePosixPath

import pytest

from flask_chunked.config.settings import PREFIX, SETTINGS, Settings
from flask_chunked.exceptions import ConfigurationError

DAY = timedelta(days=1)


class OwnStorage:
    """Stands for a storage class; never called."""


def read(key: str, value: object) -> object:
    """What a key becomes in the settings."""
    (setting,) = (one for one in SETTINGS if one.key == PREFIX + key)
    settings = Settings.from_config({PREFIX + key: value}, {})
    return getattr(settings, setting.attribute)


def cases(key: str, *pairs: tuple[object, object]) -> list[object]:
    return [
        pytest.param(key, value, expected, id=f"{key}-{value!r}")
        for value, expected in pairs
    ]


def wrong(key: str, *values: object) -> list[object]:
    return [
        pytest.param(key, value, id=f"{key}-{str(value)[:30]!r}") for value in values
    ]


BOOLEANS = [
    "USER_RESTRICTED",
    "ABSTRACT_MODEL",
    "ALLOW_ANONYMOUS",
    "DURABLE",
    "DOWNLOADS",
    "SQLITE_WAL",
]

ACCEPTED = [
    *cases(
        "EXPIRATION_DELTA",
        (timedelta(hours=1), timedelta(hours=1)),
        (3600, timedelta(hours=1)),
        (0.5, timedelta(seconds=0.5)),
        ("3600", timedelta(hours=1)),
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("1d", DAY),
        (" 1 D ", DAY),
        ("1.5h", timedelta(minutes=90)),
        ("36500d", timedelta(days=36500)),
        (None, None),
        ("", None),
        ("  ", None),
    ),
    *cases(
        "PATH",
        ("up/%Y", "up/%Y"),
        ("/srv/uploads", "/srv/uploads"),
        (PurePosixPath("/srv/up"), "/srv/up"),
    ),
    *cases(
        "CHECKSUM",
        ("sha256", "sha256"),
        (" SHA256 ", "sha256"),
        ("blake2b", "blake2b"),
        ("sha3_256", "sha3_256"),
    ),
    *cases("COMPLETE_EXT", (".ok", ".ok"), ("_done-1", "_done-1"), ("", "")),
    *cases("INCOMPLETE_EXT", (".tmp", ".tmp"), ("", "")),
    *cases(
        "STORAGE_CLASS",
        (OwnStorage, OwnStorage),
        ("own.module.Name", "own.module.Name"),
        ("own.module:Name", "own.module:Name"),
        (None, None),
        ("", None),
    ),
    *cases(
        "MAX_BYTES",
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        ("123", 123),
        ("123B", 123),
        ("1KiB", 2**10),
        ("10MiB", 10 * 2**20),
        ("5GiB", 5 * 2**30),
        ("2tib", 2 * 2**40),
        (" 5 GiB ", 5 * 2**30),
        (None, None),
        ("", None),
    ),
    *cases(
        "READ_TIMEOUT",
        (30, 30.0),
        (0.25, 0.25),
        ("30s", 30.0),
        ("2m", 120.0),
        ("0.25", 0.25),
        (timedelta(seconds=5), 5.0),
    ),
    *(
        case
        for key in BOOLEANS
        for case in cases(
            key,
            (True, True),
            (False, False),
            (1, True),
            (0, False),
            ("true", True),
            ("TRUE", True),
            ("False", False),
            ("1", True),
            (" 0 ", False),
        )
    ),
]

REFUSED = [
    *wrong(
        "EXPIRATION_DELTA",
        *(0, -1, timedelta(0), -DAY, True, "0", "-1d", "1w", "1d2h", "soon", "\u0661d"),
        *("1\u017f", "1e5", "999999999999d", "36501d", float("nan"), float("inf"), [1]),
        10**400,
    ),
    *wrong("PATH", None, "", "  ", "a\0b", 5, b"up", "up\ud800"),
    *wrong("CHECKSUM", None, "", "md6", "shake_128", "SHAKE_256", 5, "md5 sha1"),
    *wrong("COMPLETE_EXT", None, "/x", "..\\x", "a\0", ".d\u00f6ne", ".d ne", 5),
    *wrong("COMPLETE_EXT", "x" * 65, "x\ny"),
    *wrong("INCOMPLETE_EXT", None, "../x", True),
    *wrong("STORAGE_CLASS", "Name", "a..b", ".a", "a b.c", "a.b()", "a:b:c", 5, True),
    *wrong("MAX_BYTES", 0, -1, "0", "-1", "5GB", "5G", "1.5GiB", 1.5, True, 2**63),
    *wrong("MAX_BYTES", "9000000000TiB", "big", "\u0665", "9" * 5000, [5]),
    *wrong("READ_TIMEOUT", None, "", 0, -1, "0s", False, "2d", 86_401, float("nan")),
    *(
        case
        for key in BOOLEANS
        for case in wrong(key, None, "", "yes", "on", "2", 2, -1, 1.0, [], "true false")
    ),
]


@pytest.mark.parametrize(("key", "value", "expected"), ACCEPTED)
def test_value_is_accepted(key: str, value: object, expected: object) -> None:
    parsed = read(key, value)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_refused_value_names_key_and_what_is_accepted(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(key, value)
    message = str(caught.value)
    assert message.startswith(f"{PREFIX}{key} = {value!r}"[:100])
    assert "accepted: " in message
    assert len(message) < 500


def test_every_fixed_length_algorithm_of_hashlib_is_accepted() -> None:
    fixed = set(hashlib.algorithms_guaranteed) - {"shake_128", "shake_256"}
    assert {read("CHECKSUM", name) for name in fixed} == fixed


def test_algorithm_that_openssl_lists_but_does_not_provide_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hashlib, "algorithms_available", {"md5", "whirlwind"})
    with pytest.raises(ConfigurationError, match="CHECKSUM"):
        read("CHECKSUM", "whirlwind")


def test_callable_storage_factory_is_kept() -> None:
    def factory() -> OwnStorage:
        return OwnStorage()

    assert read("STORAGE_CLASS", factory) is factory
