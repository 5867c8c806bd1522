"""The options of the S3 storage."""

from __future__ import annotations

from typing import Any

import pytest

from flask_chunked.exceptions import ConfigurationError
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage
from flask_chunked.storage.s3.options import NAMES
from flask_chunked.storage.s3.plan import MAX_PART_SIZE, MIB
from tests.documents import ROOT

from .names import new_storage


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"part_size": 5 * MIB - 1}, id="small-parts"),
        pytest.param({"part_size": MAX_PART_SIZE + 1}, id="huge-parts"),
        pytest.param({"max_parts": 1}, id="one-part"),
        pytest.param({"max_parts": 10_001}, id="too-many-parts"),
        pytest.param({"checksum": "sha1"}, id="unknown-checksum"),
        pytest.param({"colour": "red"}, id="unknown-option"),
    ],
)
def test_invalid_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        new_storage(**options)


def test_secrets_are_not_shown() -> None:
    storage = new_storage(secret_key="hidden", session_token="hidden too")
    assert "hidden" not in repr(storage.bucket.settings)


def test_unknown_option_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"colour is unknown.*part_size"):
        new_storage(colour="red")


def test_missing_bucket_is_named() -> None:
    with pytest.raises(ConfigurationError, match="bucket is missing"):
        S3Storage(StorageSettings("/"))


@pytest.mark.parametrize("value", [0, "two"])
def test_invalid_concurrency_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="options of S3Storage"):
        new_storage(concurrency=value)


def test_documented_options_are_all_accepted() -> None:
    documented = (ROOT / "docs/storage.rst").read_text()
    assert [name for name in NAMES if f"``{name}``" not in documented] == []
