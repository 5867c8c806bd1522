"""Values of the storages: frozen, compared by content, defaults like the settings."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import datetime, timezone
from typing import Any

import pytest

from flask_chunked.config.settings import Settings
from flask_chunked.storage import base
from flask_chunked.storage.values import (
    Blob,
    Part,
    Receipt,
    StorageSettings,
    StoredItem,
)

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
VALUES = {
    "settings": StorageSettings("/base"),
    "part": Part(1, 3, '"e"'),
    "blob": Blob("k", 3),
    "receipt": Receipt(),
    "item": StoredItem("k", 3, NOW),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_value_is_frozen_and_takes_no_other_attribute(value: Any) -> None:
    name = fields(value)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("name", ["path", "durable", "incomplete_ext", "complete_ext"])
def test_default_is_that_of_the_configuration(name: str) -> None:
    configured = getattr(Settings.from_config({}, {}), name)
    assert getattr(StorageSettings("/base"), name) == configured


def test_suffixes_of_finished_and_unfinished_files_differ() -> None:
    settings = StorageSettings("/base")
    assert settings.incomplete_ext != settings.complete_ext


def test_blob_and_receipt_have_no_state_and_no_parts_by_default() -> None:
    blob, receipt = Blob("k", 3), Receipt()
    assert (blob.state, blob.parts) == (receipt.state, receipt.parts) == (None, ())


def test_item_is_the_file_of_its_key_by_default() -> None:
    item = StoredItem("k", 3, NOW)
    assert (item.staged, item.piece) == (False, None)


def test_part_may_have_no_checksum() -> None:
    assert Part(1, 3, '"e"').checksum is None
    assert Part(1, 3, '"e"') != Part(1, 3, '"e"', "c")


@pytest.mark.parametrize("kind", [Blob, Part, Receipt, StorageSettings, StoredItem])
def test_authors_of_storages_import_values_from_the_base(kind: type[Any]) -> None:
    assert getattr(base, kind.__name__) is kind
    assert kind.__name__ in base.__all__
