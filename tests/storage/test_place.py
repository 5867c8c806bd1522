"""Directories and names that an application chooses for files."""

from __future__ import annotations

from uuid import UUID

import pytest

from flask_chunked.exceptions import InvalidPlace
from flask_chunked.storage.place import MAX_KEY, MAX_SEGMENT, USUAL, Place

ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")


@pytest.mark.parametrize(
    ("directory", "name", "key"),
    [
        (None, None, f"2026/11/{ID}"),
        (None, "", f"2026/11/{ID}"),
        (None, "film", f"2026/11/film-{ID}"),
        ("", None, f"{ID}"),
        ("", "film", f"film-{ID}"),
        ("projects/7", None, f"projects/7/{ID}"),
        ("projects/7", "a-b.c", f"projects/7/a-b.c-{ID}"),
        ("...", "日本\n", f".../日本\n-{ID}"),
        ("ü" * 75, "x" * MAX_SEGMENT, f"{'ü' * 75}/{'x' * MAX_SEGMENT}-{ID}"),
    ],
)
def test_key_is_directory_name_and_id(
    directory: str | None, name: str | None, key: str
) -> None:
    assert Place.from_names(directory, name).key(ID, "2026/11") == key


def test_prefix_precedes_the_directories() -> None:
    assert Place.from_names("a", "b").key(ID, "day", "films/") == f"films/a/b-{ID}"
    assert USUAL.key(ID, "day", "films/") == f"films/day/{ID}"


BAD_NAMES = [".", "..", "a\0b", "x" * (MAX_SEGMENT + 1), "ü" * 76, "\ud800", 7, b"x"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "a/b", "/", False], ids=ascii)
def test_bad_name_is_an_error_for_the_developer(name: object) -> None:
    with pytest.raises(InvalidPlace, match=r"^get_path\(\) or new_name\(\) chose"):
        Place.from_names(None, name)


@pytest.mark.parametrize(
    "directory",
    [*BAD_NAMES, "/", "/a", "a/", "a//b", "a/../b", "../a", "a/.", "a/b\0", ()],
    ids=ascii,
)
def test_bad_directory_is_an_error_for_the_developer(directory: object) -> None:
    with pytest.raises(InvalidPlace, match=r"^get_path\(\) or new_name\(\) chose"):
        Place.from_names(directory, None)


def test_message_says_what_is_wrong_and_is_short() -> None:
    with pytest.raises(InvalidPlace, match="has 100000 bytes of UTF-8") as caught:
        Place.from_names(None, "x" * 100_000)
    assert len(str(caught.value)) < 400


def test_key_fits_into_the_row() -> None:
    long = "x" * 100
    fits = Place.from_names(f"{long}/{long}/{long}/{long}", "y" * 71)
    assert len(fits.key(ID, "")) == MAX_KEY
    with pytest.raises(InvalidPlace, match="more than 512 bytes"):
        fits.key(ID, "", "p")
