"""The boto3 client of a bucket."""

from __future__ import annotations

import sys

import pytest

from flask_chunked.exceptions import ConfigurationError
from flask_chunked.storage.base import Blob

from .names import KEY, new_storage


def test_missing_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both names: a submodule that is already imported is found without its package.
    for name in ("boto3", "boto3.session"):
        monkeypatch.setitem(sys.modules, name, None)
    storage = new_storage()
    with pytest.raises(ConfigurationError, match=r"flask-chunked\[s3\]"):
        storage.measure(Blob(KEY, 1))
