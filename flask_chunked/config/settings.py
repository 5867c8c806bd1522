"""The ``CHUNKED_UPLOAD_*`` settings as a table, read and validated once per app.

Works on mappings alone: no Flask app, no I/O, nothing of what the settings are for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from werkzeug.utils import ImportStringError, import_string

from ..exceptions import ConfigurationError
from .values import (
    Parse,
    optional,
    parse_boolean,
    parse_checksum,
    parse_count,
    parse_expiration,
    parse_extension,
    parse_origins,
    parse_path,
    parse_read_timeout,
    parse_size,
    parse_storage_class,
)

if TYPE_CHECKING:
    from ..storage.base import Storage

PREFIX = "CHUNKED_UPLOAD_"

# By name, so that an app with its bytes elsewhere never imports the local storage.
_DEFAULT_STORAGE = "flask_chunked.storage.local:LocalStorage"


@dataclass(frozen=True, slots=True)
class Setting:
    """One configuration key.

    :param key: name in ``app.config``.
    :param default: parsed value where the key is absent.
    :param parse: from a Python value or a string; ValueError says what is accepted.
    :param attribute: name in :class:`Settings` and on a blueprint.
    :param unit: of the parsed value; empty where it has none.
    :param doc: one sentence for users.
    """

    key: str
    default: object
    parse: Parse
    attribute: str
    unit: str
    doc: str

    def read(self, value: object, source: str) -> object:
        """The parsed value.

        :param source: the key or attribute that the value comes from.
        :raises ConfigurationError: names source, value and what is accepted.
        """
        try:
            return self.parse(value)
        except ValueError as error:
            raise ConfigurationError(
                f"{source} = {_show(value)} is not valid; accepted: {error}"
            ) from error


SETTINGS: tuple[Setting, ...] = (
    Setting(
        key="CHUNKED_UPLOAD_EXPIRATION_DELTA",
        default=timedelta(days=1),
        parse=optional(parse_expiration),
        attribute="expiration_delta",
        unit="timedelta or seconds",
        doc="Time without a committed byte after which an unfinished upload expires "
        "(a timedelta, seconds, or a text like '12h'; None: never).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_PATH",
        default="chunked_uploads/%Y/%m/%d",
        parse=parse_path,
        attribute="path",
        unit="strftime pattern",
        doc="Directory of the files, a strftime pattern of the creation time in UTC, "
        "relative to the application's instance path.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_CHECKSUM",
        default="md5",
        parse=parse_checksum,
        attribute="checksum",
        unit="hashlib name",
        doc="Checksum that proves a finished file, any hashlib name with a digest of "
        "fixed length.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_COMPLETE_EXT",
        default=".done",
        parse=parse_extension,
        attribute="complete_ext",
        unit="file name suffix",
        doc="Suffix of a finished upload's file, different from that of an unfinished "
        "one.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_INCOMPLETE_EXT",
        default=".part",
        parse=parse_extension,
        attribute="incomplete_ext",
        unit="file name suffix",
        doc="Suffix of an unfinished upload's file, different from that of a finished "
        "one.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_STORAGE_CLASS",
        default=None,
        parse=optional(parse_storage_class),
        attribute="storage_class",
        unit="class, factory or dotted path",
        doc="Where the bytes go: a storage class, a factory or its dotted path "
        "(None: the local disk).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_USER_RESTRICTED",
        default=True,
        parse=parse_boolean,
        attribute="user_restricted",
        unit="boolean",
        doc="Uploads are seen and continued by their owner only.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_ABSTRACT_MODEL",
        default=False,
        parse=parse_boolean,
        attribute="abstract_model",
        unit="boolean",
        doc="No concrete model is built, so every blueprint must name one.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MAX_BYTES",
        default=None,
        parse=optional(parse_size),
        attribute="max_bytes",
        unit="bytes",
        doc="Largest file in bytes, or a text like '5GiB' (None: no limit).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_ALLOW_ANONYMOUS",
        default=False,
        parse=parse_boolean,
        attribute="allow_anonymous",
        unit="boolean",
        doc="Uploads without an owner are accepted; the unguessable URL is then the "
        "capability and nothing is listed.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_DURABLE",
        default=True,
        parse=parse_boolean,
        attribute="durable",
        unit="boolean",
        doc="Bytes are synced to the disk before they are acknowledged.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_DOWNLOADS",
        default=False,
        parse=parse_boolean,
        attribute="downloads",
        unit="boolean",
        doc="The content of finished uploads is served at /<id>/file.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_CORS_ORIGINS",
        default=(),
        parse=parse_origins,
        attribute="cors_origins",
        unit="list or comma-separated string",
        doc="Origins whose pages may upload, exactly as browsers send them, or '*' for "
        "all of them without credentials.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_READ_TIMEOUT",
        default=30.0,
        parse=parse_read_timeout,
        attribute="read_timeout",
        unit="seconds",
        doc="Seconds without a byte after which a request's body is given up and what "
        "arrived is kept.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MAX_OPEN_UPLOADS",
        default=None,
        parse=optional(parse_count),
        attribute="max_open_uploads",
        unit="uploads",
        doc="Unfinished uploads that one owner may have; more are refused with 429 "
        "(None: no limit).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MAX_TOTAL_BYTES",
        default=None,
        parse=optional(parse_size),
        attribute="max_total_bytes",
        unit="bytes",
        doc="Bytes that one owner's unfinished uploads may have in all, as declared; "
        "more are refused with 413 (None: no limit).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MAX_STORED_BYTES",
        default=None,
        parse=optional(parse_size),
        attribute="max_stored_bytes",
        unit="bytes",
        doc="Bytes that one owner's unfinished uploads and finished files may have in "
        "all; more are refused with 413 (None: no limit).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_KEEP_PARTIALS",
        default=True,
        parse=parse_boolean,
        attribute="keep_partials",
        unit="boolean",
        doc="Partial uploads (tus concatenation) stay until they expire; without it "
        "they are removed as soon as the final upload is complete that names them.",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MIN_RATE",
        default=None,
        parse=optional(parse_size),
        attribute="min_rate",
        unit="bytes per second",
        doc="Slowest client that is put up with: a body that brings less, on average "
        "over each read timeout spent waiting for it, is given up and what arrived is "
        "kept (None: any pace).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_MAX_LIFETIME",
        default=None,
        parse=optional(parse_expiration),
        attribute="max_lifetime",
        unit="timedelta or seconds",
        doc="Time after its creation at which an unfinished upload expires, however "
        "active it is (None: never).",
    ),
    Setting(
        key="CHUNKED_UPLOAD_SQLITE_WAL",
        default=True,
        parse=parse_boolean,
        attribute="sqlite_wal",
        unit="boolean",
        doc="A SQLite file is switched to write-ahead logging.",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated configuration of one registered blueprint.

    :param expiration_delta: ``None``: unfinished uploads never expire.
    :param max_bytes: largest file in bytes; ``None``: no limit.
    :param read_timeout: seconds.
    :param max_open_uploads: of one owner; ``None``: no limit.
    :param max_total_bytes: of these; ``None``: no limit.
    :param max_stored_bytes: of these and of finished files; ``None``: no limit.
    :param keep_partials: partial uploads outlive the completion of their final one.
    :param min_rate: bytes per second; ``None``: any pace.
    :param max_lifetime: ``None``: only idle uploads expire.
    :param storage_class: class, factory or dotted path; ``None``: local disk.
    """

    expiration_delta: timedelta | None
    path: str
    checksum: str
    complete_ext: str
    incomplete_ext: str
    storage_class: object | None
    user_restricted: bool
    abstract_model: bool
    max_bytes: int | None
    allow_anonymous: bool
    durable: bool
    downloads: bool
    cors_origins: tuple[str, ...]
    read_timeout: float
    max_open_uploads: int | None
    max_total_bytes: int | None
    max_stored_bytes: int | None
    keep_partials: bool
    min_rate: int | None
    max_lifetime: timedelta | None
    sqlite_wal: bool

    @classmethod
    def from_config(
        cls, config: Mapping[str, object], overrides: Mapping[str, object]
    ) -> Settings:
        """Read an app's configuration and a blueprint's own attributes over it.

        :param config: ``app.config``; keys of others are passed over.
        :param overrides: attribute name to value; ``None`` takes the app's key.
        :raises ConfigurationError: an unknown ``CHUNKED_UPLOAD_*`` key or override, a
            value that is not accepted, or two suffixes that are the same.
        """
        _refuse_unknown(config, overrides)
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            # The app's key is read even where it is overridden: a typing error in it
            # is found by the first blueprint, not by the first without an override.
            values[setting.attribute] = setting.default
            if setting.key in config:
                values[setting.attribute] = setting.read(
                    config[setting.key], setting.key
                )
            override = overrides.get(setting.attribute)
            if override is not None:
                values[setting.attribute] = setting.read(override, setting.attribute)
        settings = cls(**values)
        if settings.complete_ext == settings.incomplete_ext:
            raise ConfigurationError(
                f"{PREFIX}COMPLETE_EXT and {PREFIX}INCOMPLETE_EXT are both "
                f"{settings.complete_ext!r}; accepted: two different suffixes"
            )
        return settings

    def load_storage_class(self) -> Callable[..., Storage]:
        """The storage's class or factory, imported now if it is a dotted path.

        :raises ConfigurationError: it cannot be imported or called.
        """
        source = f"{PREFIX}STORAGE_CLASS (or storage_class)"
        factory = self.storage_class
        if factory is None:
            factory = _DEFAULT_STORAGE
        if isinstance(factory, str):
            factory = _import(factory, source)
        if not callable(factory):
            raise ConfigurationError(
                f"{source} = {_show(self.storage_class)} is a "
                f"{type(factory).__name__}; accepted: a class or a factory"
            )
        return cast("Callable[..., Storage]", factory)


def _import(path: str, source: str) -> object:
    try:
        return cast(object, import_string(path))
    except ImportError as error:
        reason = error.exception if isinstance(error, ImportStringError) else error
        raise ConfigurationError(
            f"{source} = {_show(path)} cannot be imported: {reason}"
        ) from error


def _refuse_unknown(
    config: Mapping[str, object], overrides: Mapping[str, object]
) -> None:
    keys = {setting.key for setting in SETTINGS}
    attributes = {setting.attribute for setting in SETTINGS}
    for key in config:
        if key.startswith(PREFIX) and key not in keys:
            raise ConfigurationError(
                f"Unknown key {_show(key)}; did you mean {_nearest(key, keys)}?"
            )
    for name in overrides:
        if name not in attributes:
            raise ConfigurationError(
                f"Unknown attribute {_show(name)}; "
                f"did you mean {_nearest(name, attributes)}?"
            )


def _nearest(name: str, known: set[str]) -> str:
    # Without the prefix, which would make every key look alike.
    suffixes = {one.removeprefix(PREFIX): one for one in sorted(known)}
    wanted = name.removeprefix(PREFIX).upper() if name.startswith(PREFIX) else name
    return suffixes[difflib.get_close_matches(wanted, suffixes, 1, 0.0)[0]]


def _show(value: object) -> str:
    return repr(value)[:200]
