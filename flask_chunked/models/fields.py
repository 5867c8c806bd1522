"""Loads the fields that a client may set on an upload, with the blueprint's schema.

Knows schemas and models; nothing of requests.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import Schema, ValidationError
from marshmallow.fields import Field

from ..exceptions import ConfigurationError, InvalidFields
from ..schemas import ChunkedUploadSchema
from .columns import FILENAME, Ownership

logger = logging.getLogger("flask_chunked")

#: Most characters of a request that a warning quotes.
_MAX_QUOTED = 200


class FieldLoader:
    """Loads ``filename`` and the application's own columns.

    :param user_field: the model's attribute that holds the owner.
    :param blueprint: the blueprint's name, for errors and warnings.
    :raises ConfigurationError: the schema loads other fields or returns instances.
    """

    def __init__(
        self, schema: Schema, model: type[Any], user_field: str, blueprint: str
    ) -> None:
        self._schema = schema
        self._name = f"Schema {type(schema).__name__} of blueprint {blueprint!r}"
        # A field without a data_key uses its name as the key.
        keys = {
            name: name if field.data_key is None else field.data_key
            for name, field in schema.load_fields.items()
        }
        self._known = frozenset(keys.values())
        #: Attribute of the model -> the key that clients send.
        self.keys: Mapping[str, str] = {
            _target(name, field): keys[name]
            for name, field in schema.load_fields.items()
        }
        ownership = Ownership(model, user_field)
        self._loadable = frozenset({FILENAME, *ownership.own})
        self._warning_lock = threading.Lock()
        self._require_loadable(model, ownership)
        self._require_mapping()

    def load(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """Validate the fields of a request with the schema.

        :return: ``filename``, if the request has it, and values of own columns.
        :raises InvalidFields: the schema refuses a value, or a value is missing.
        :raises RuntimeError: the schema does not return a mapping.
        """
        if not form and type(self._schema) is ChunkedUploadSchema:
            # The library's schema requires no field and has no defaults.
            return {}
        known = {key: value for key, value in form.items() if key in self._known}
        try:
            loaded: object = self._schema.load(known)
        except ValidationError as error:
            raise InvalidFields(_messages(error)) from error
        if not isinstance(loaded, Mapping):
            raise RuntimeError(
                f"{self._name} returned {type(loaded).__name__} from load(), but a "
                "dict of values is expected. Let its post_load hooks return the dict "
                "that they receive"
            )
        fields = {name: loaded[name] for name in loaded if name in self._loadable}
        if len(fields) < len(loaded):
            self._warn(name for name in loaded if name not in fields)
        return fields

    def _warn(self, names: Iterable[object]) -> None:
        """Log the names, once: a client may choose them, and send any number."""
        # The first request keeps the lock forever, so that no other request warns.
        if not self._warning_lock.acquire(blocking=False):
            return
        logger.warning(
            "%s loaded values for which the application has no columns; they are "
            "ignored: %s. This warning appears once",
            self._name,
            ", ".join(sorted(map(repr, names)))[:_MAX_QUOTED],
        )

    def _require_loadable(self, model: type[Any], ownership: Ownership) -> None:
        """Refuse fields that would set columns of the library, or no column at all."""
        targets = {
            name: _target(name, field)
            for name, field in self._schema.load_fields.items()
        }
        forbidden = {name: to for name, to in targets.items() if ownership.is_core(to)}
        forbidden = {name: to for name, to in forbidden.items() if to != FILENAME}
        stray = {
            name: to
            for name, to in targets.items()
            if to not in self._loadable and name not in forbidden
        }
        faults = []
        if forbidden:
            faults.append(
                f"{self._name} lets clients set columns of the library: "
                f"{_listed(forbidden, ownership)}. Give these fields dump_only=True, "
                "or add them to Meta.dump_only or Meta.exclude"
            )
        if stray:
            faults.append(
                f"{self._name} loads fields for which {model.__name__} has no column "
                f"of its own: {_listed(stray, ownership)}. Add the columns to a model "
                "of the application (model = ...), or give these fields dump_only=True"
            )
        if faults:
            raise ConfigurationError("; ".join(faults))

    def _require_mapping(self) -> None:
        """Refuse a schema of marshmallow-sqlalchemy that creates instances."""
        if getattr(self._schema.opts, "load_instance", False):
            raise ConfigurationError(
                f"{self._name} has Meta.load_instance = True and would create rows. "
                "Set it to False: the blueprint creates the row"
            )


def _target(name: str, field: Field[Any]) -> str:
    """The attribute that a field sets; of a dotted name, its first part."""
    return (field.attribute or name).partition(".")[0]


def _listed(targets: Mapping[str, str], ownership: Ownership) -> str:
    """Describe fields, each like ``size (to length, a synonym of 'length')``."""

    def one(name: str, target: str) -> str:
        kind = ownership.describe(target)
        details = [f"to {target!r}"] if target != name else []
        if kind is not None and kind != f"column {target!r}":
            details.append(kind)
        return f"{name!r} ({', '.join(details)})" if details else repr(name)

    return ", ".join(one(name, target) for name, target in targets.items())


def _messages(error: ValidationError) -> dict[str, list[str]]:
    found: dict[Any, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return {
        str(name): [str(m) for m in messages]
        if isinstance(messages, list)
        else [str(messages)]
        for name, messages in found.items()
    }
