"""The settings: their table, unknown names, overrides, and the environment."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from flask import Flask

from flask_chunked.config.settings import PREFIX, SETTINGS, Setting, Settings
from flask_chunked.exceptions import ConfigurationError

DAY = timedelta(days=1)


class OwnStorage:
    """Stands for a storage class; never called."""


def read(key: str, value: object) -> object:
    """What a key becomes in the settings."""
    (setting,) = (one for one in SETTINGS if one.key == PREFIX + key)
    settings = Settings.from_config({PREFIX + key: value}, {})
    return getattr(settings, setting.attribute)


# -- the table ---------------------------------------------------------------------


def test_table_has_the_fields_of_settings_in_their_order() -> None:
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert [setting.attribute for setting in SETTINGS] == fields


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented_and_named_after_its_key(setting: Setting) -> None:
    assert setting.key == PREFIX + setting.attribute.upper()
    assert setting.unit
    assert setting.doc.endswith(".") and "\n" not in setting.doc


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_default_is_a_value_that_its_own_parser_accepts(setting: Setting) -> None:
    assert setting.parse(setting.default) == setting.default


def test_defaults() -> None:
    assert Settings.from_config({}, {}) == Settings(
        expiration_delta=DAY,
        path="chunked_uploads/%Y/%m/%d",
        checksum="md5",
        complete_ext=".done",
        incomplete_ext=".part",
        storage_class=None,
        user_restricted=True,
        abstract_model=False,
        max_bytes=None,
        allow_anonymous=False,
        durable=True,
        downloads=False,
        read_timeout=30.0,
        max_open_uploads=None,
        max_total_bytes=None,
        max_stored_bytes=None,
        keep_partials=True,
        min_rate=None,
        max_lifetime=None,
        cors_origins=(),
        sqlite_wal=True,
    )


# -- several keys ------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["", ".part"])
def test_equal_suffixes_are_refused(extension: str) -> None:
    config = {
        "CHUNKED_UPLOAD_COMPLETE_EXT": extension,
        "CHUNKED_UPLOAD_INCOMPLETE_EXT": f" {extension} ",
    }
    with pytest.raises(ConfigurationError, match=r"COMPLETE_EXT.*INCOMPLETE_EXT"):
        Settings.from_config(config, {})


def test_environment_arrives_through_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "MAX_BYTES": "5GiB",
        "EXPIRATION_DELTA": "3600",
        "DURABLE": "0",
        "DOWNLOADS": "True",
        "ALLOW_ANONYMOUS": "true",
        "READ_TIMEOUT": "2.5",
        "STORAGE_CLASS": "null",
        "COMPLETE_EXT": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"FLASK_CHUNKED_UPLOAD_{name}", value)
    app = Flask(__name__)
    app.config.from_prefixed_env()
    settings = Settings.from_config(app.config, {})
    assert settings == dataclasses.replace(
        Settings.from_config({}, {}),
        max_bytes=5 * 2**30,
        expiration_delta=timedelta(hours=1),
        durable=False,
        downloads=True,
        allow_anonymous=True,
        read_timeout=2.5,
        complete_ext="",
    )


# -- unknown names -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("CHUNKED_UPLOAD_USER_RESTRICED", "CHUNKED_UPLOAD_USER_RESTRICTED"),
        ("CHUNKED_UPLOAD_MAXBYTES", "CHUNKED_UPLOAD_MAX_BYTES"),
        ("CHUNKED_UPLOAD_max_bytes", "CHUNKED_UPLOAD_MAX_BYTES"),
        ("CHUNKED_UPLOAD_EXPIRATION", "CHUNKED_UPLOAD_EXPIRATION_DELTA"),
        ("CHUNKED_UPLOAD_TIMEOUT", "CHUNKED_UPLOAD_READ_TIMEOUT"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(key: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_config({key: 1}, {})
    assert repr(key) in str(caught.value)
    assert f"did you mean {nearest}?" in str(caught.value)


def test_key_unlike_any_known_one_is_an_error_too() -> None:
    with pytest.raises(ConfigurationError, match="CHUNKED_UPLOAD_"):
        Settings.from_config({"CHUNKED_UPLOAD_": 1}, {})


def test_keys_without_the_prefix_are_ignored() -> None:
    config = {"SECRET_KEY": "x", "DRF_CHUNKED_UPLOAD_PATH": 5, "CHUNKED_UPLOADS": 1}
    assert Settings.from_config(config, {}) == Settings.from_config({}, {})


# -- overrides ---------------------------------------------------------------------


def test_override_wins_over_the_key() -> None:
    settings = Settings.from_config(
        {"CHUNKED_UPLOAD_MAX_BYTES": 5, "CHUNKED_UPLOAD_DOWNLOADS": True},
        {"max_bytes": "1KiB", "downloads": False},
    )
    assert (settings.max_bytes, settings.downloads) == (1024, False)


def test_override_of_none_takes_the_key() -> None:
    settings = Settings.from_config(
        {"CHUNKED_UPLOAD_MAX_BYTES": 5}, {"max_bytes": None, "downloads": None}
    )
    assert (settings.max_bytes, settings.downloads) == (5, False)


def test_refused_override_names_the_attribute() -> None:
    with pytest.raises(ConfigurationError, match=r"^max_bytes = -1 is not valid"):
        Settings.from_config({}, {"max_bytes": -1})


def test_wrong_key_is_found_under_an_override() -> None:
    with pytest.raises(ConfigurationError, match="CHUNKED_UPLOAD_MAX_BYTES"):
        Settings.from_config({"CHUNKED_UPLOAD_MAX_BYTES": -1}, {"max_bytes": 1})


def test_unknown_override_names_the_nearest_attribute() -> None:
    with pytest.raises(ConfigurationError, match="did you mean max_bytes"):
        Settings.from_config({}, {"max_byte": 1})


# -- the storage class -------------------------------------------------------------


def load(value: object) -> object:
    return Settings.from_config(
        {"CHUNKED_UPLOAD_STORAGE_CLASS": value}, {}
    ).load_storage_class()


def test_default_storage_is_the_local_disk() -> None:
    from flask_chunked.storage.local import LocalStorage

    assert load(None) is LocalStorage


@pytest.mark.parametrize("separator", [".", ":"])
def test_dotted_path_is_imported(separator: str) -> None:
    assert load(f"collections{separator}OrderedDict").__name__ == "OrderedDict"  # type: ignore[attr-defined]


def test_storage_class_is_given_back_as_it_is() -> None:
    assert load(OwnStorage) is OwnStorage


def test_storage_path_is_not_imported_at_start() -> None:
    settings = Settings.from_config(
        {"CHUNKED_UPLOAD_STORAGE_CLASS": "no_such_module.Storage"}, {}
    )
    assert settings.storage_class == "no_such_module.Storage"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("no_such_module.Storage", "no_such_module", id="no-module"),
        pytest.param("collections.NoStorage", "NoStorage", id="no-name"),
    ],
)
def test_path_that_cannot_be_imported_names_key_and_reason(
    path: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(
        f"CHUNKED_UPLOAD_STORAGE_CLASS (or storage_class) = '{path}"
    )
    assert reason in message.partition("cannot be imported: ")[2]


def test_path_to_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"STORAGE_CLASS.*is a str"):
        load("string.ascii_letters")
