"""The ``CHUNKED_UPLOAD_*`` settings: one table of their keys, defaults and parsers.

Reads mappings. Knows nothing of Flask apps, and does no I/O.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
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

# A dotted path, so that only apps that use the local storage import it.
_DEFAULT_STORAGE = "flask_chunked.storage.local:LocalStorage"


@dataclass(frozen=True, slots=True)
class Setting:
    """One configuration key.

    :param key: the name in ``app.config``.
    :param attribute: the name in :class:`Settings` and on a blueprint.
    :param default: the parsed value if the key is absent.
    :param parse: converts a Python value or a string; its ValueError lists the accepted
        values.
    :param unit: the unit or the kind of the parsed value, for the docs.
    :param doc: one sentence for users.
    """

    key: str
    attribute: str
    default: object
    parse: Parse
    unit: str
    doc: str

    def read(self, value: object, source: str) -> object:
        """Parse a value.

        :param source: the key or attribute that has the value.
        :raises ConfigurationError: the value is not accepted.
        """
        try:
            return self.parse(value)
        except ValueError as error:
            raise ConfigurationError(
                f"{source} = {_show(value)} is not valid; accepted: {error}"
            ) from error


def _setting(*, default: object, parse: Parse, unit: str, doc: str) -> Any:
    """A field of :class:`Settings` that describes its setting.

    The constructor still requires a value for it.
    """
    return field(
        metadata={"default": default, "parse": parse, "unit": unit, "doc": doc}
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated configuration of one registered blueprint.

    Each field is a setting: its key in ``app.config`` is ``CHUNKED_UPLOAD_`` and the
    field's name in capital letters.
    """

    expiration_delta: timedelta | None = _setting(  # noqa: RUF009
        default=timedelta(days=1),
        parse=optional(parse_expiration),
        unit="timedelta or seconds",
        doc="Time without a committed byte after which an unfinished upload expires "
        "(a timedelta, seconds, or a text such as '12h'; None: never).",
    )
    path: str = _setting(
        default="chunked_uploads/%Y/%m/%d",
        parse=parse_path,
        unit="strftime pattern",
        doc="Directory of the files, a strftime pattern of the creation time in UTC, "
        "relative to the application's instance path.",
    )
    checksum: str = _setting(
        default="md5",
        parse=parse_checksum,
        unit="hashlib name",
        doc="Checksum that verifies a complete file: the hashlib name of an algorithm "
        "with a digest of fixed length.",
    )
    complete_ext: str = _setting(
        default=".done",
        parse=parse_extension,
        unit="file name suffix",
        doc="Suffix of a complete upload's file; it differs from the suffix of an "
        "unfinished upload's file.",
    )
    incomplete_ext: str = _setting(
        default=".part",
        parse=parse_extension,
        unit="file name suffix",
        doc="Suffix of an unfinished upload's file; it differs from the suffix of a "
        "complete upload's file.",
    )
    storage_class: object | None = _setting(
        default=None,
        parse=optional(parse_storage_class),
        unit="class, factory or dotted path",
        doc="Storage of the bytes: a storage class, a factory or its dotted path "
        "(None: the local disk).",
    )
    user_restricted: bool = _setting(
        default=True,
        parse=parse_boolean,
        unit="boolean",
        doc="Only its owner can see and continue an upload.",
    )
    abstract_model: bool = _setting(
        default=False,
        parse=parse_boolean,
        unit="boolean",
        doc="The library creates no model, so that each blueprint must name one.",
    )
    max_bytes: int | None = _setting(
        default=None,
        parse=optional(parse_size),
        unit="bytes",
        doc="Size of the largest file in bytes, or a text such as '5GiB' (None: no "
        "limit).",
    )
    allow_anonymous: bool = _setting(
        default=False,
        parse=parse_boolean,
        unit="boolean",
        doc="Uploads without an owner are accepted; their unguessable URL then gives "
        "access to them, and no list shows them.",
    )
    durable: bool = _setting(
        default=True,
        parse=parse_boolean,
        unit="boolean",
        doc="The server syncs bytes to the disk before it acknowledges them.",
    )
    downloads: bool = _setting(
        default=False,
        parse=parse_boolean,
        unit="boolean",
        doc="The server offers the content of complete uploads at /<id>/file.",
    )
    cors_origins: tuple[str, ...] = _setting(
        default=(),
        parse=parse_origins,
        unit="list or comma-separated string",
        doc="Origins whose pages may upload, exactly as browsers send them, or '*' for "
        "all origins, without credentials.",
    )
    read_timeout: float = _setting(
        default=30.0,
        parse=parse_read_timeout,
        unit="seconds",
        doc="Seconds without a byte after which the server stops reading a request's "
        "body; it keeps the bytes received.",
    )
    max_open_uploads: int | None = _setting(
        default=None,
        parse=optional(parse_count),
        unit="uploads",
        doc="Most unfinished uploads of one owner; the server refuses more with 429 "
        "(None: no limit).",
    )
    max_total_bytes: int | None = _setting(
        default=None,
        parse=optional(parse_size),
        unit="bytes",
        doc="Most bytes of one owner's unfinished uploads, as declared; the server "
        "refuses more with 413 (None: no limit).",
    )
    max_stored_bytes: int | None = _setting(
        default=None,
        parse=optional(parse_size),
        unit="bytes",
        doc="Most bytes of one owner's unfinished uploads and complete files; the "
        "server refuses more with 413 (None: no limit).",
    )
    keep_partials: bool = _setting(
        default=True,
        parse=parse_boolean,
        unit="boolean",
        doc="Partial uploads (tus concatenation) stay until they expire (False: they "
        "are removed as soon as their final upload is complete).",
    )
    min_rate: int | None = _setting(
        default=None,
        parse=optional(parse_size),
        unit="bytes per second",
        doc="Slowest average rate at which a client may send; below it, measured over "
        "each read timeout spent waiting for the client, the server stops reading the "
        "request's body and keeps the bytes received (None: any rate).",
    )
    max_lifetime: timedelta | None = _setting(  # noqa: RUF009
        default=None,
        parse=optional(parse_expiration),
        unit="timedelta or seconds",
        doc="Time after its creation at which an unfinished upload expires, even if it "
        "is active (None: never).",
    )
    sqlite_wal: bool = _setting(
        default=True,
        parse=parse_boolean,
        unit="boolean",
        doc="The library switches a SQLite file to write-ahead logging.",
    )

    @classmethod
    def from_config(
        cls, config: Mapping[str, object], overrides: Mapping[str, object]
    ) -> Settings:
        """Read an app's configuration and the attributes of a blueprint.

        :param config: ``app.config``; keys without the prefix are ignored.
        :param overrides: the blueprint's values by attribute, which override the app's;
            ``None`` keeps the app's value.
        :raises ConfigurationError: a ``CHUNKED_UPLOAD_*`` key or an override is
            unknown, a value is not accepted, or the two suffixes are the same.
        """
        _refuse_unknown(config, overrides)
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            # An overridden key is also read, so that a wrong value in it is an error
            # for each blueprint.
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
        """The storage's class or factory; a dotted path is imported.

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


#: All settings, in the order of the fields.
SETTINGS: tuple[Setting, ...] = tuple(
    Setting(PREFIX + one.name.upper(), one.name, **one.metadata)
    for one in fields(Settings)
)


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
    # The comparison omits the prefix, which would make all keys similar.
    suffixes = {one.removeprefix(PREFIX): one for one in sorted(known)}
    wanted = name.removeprefix(PREFIX).upper() if name.startswith(PREFIX) else name
    return suffixes[difflib.get_close_matches(wanted, suffixes, 1, 0.0)[0]]


def _show(value: object) -> str:
    return repr(value)[:200]
