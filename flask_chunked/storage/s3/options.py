"""The options of the S3 storage, checked once when the storage is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...exceptions import ConfigurationError
from .client import BucketSettings
from .plan import MIB, PartPlan

_PLAN = {"part_size": 8 * MIB, "max_parts": 10_000}
_OWN = ("prefix", "presign", "concurrency", "spool")
_CONNECTION = tuple(field.name for field in fields(BucketSettings)[1:])
#: Names of all options.
NAMES = ("bucket", *_OWN, *_PLAN, *_CONNECTION)


@dataclass(frozen=True, slots=True)
class S3Options:
    """The options of :class:`~flask_chunked.storage.s3.S3Storage`.

    :param connection: the bucket and how to connect to it.
    :param plan: the sizes of parts.
    :param prefix: the beginning of all keys.
    :param presign: seconds for which a download URL is valid; ``None``: downloads pass
        through the application.
    :param concurrency: how many parts of one request are sent at once, while the next
        one is received.
    :param spool: directory of temporary files, on a disk; ``None``: the system's.
    """

    connection: BucketSettings
    plan: PartPlan
    prefix: str = ""
    presign: int | None = None
    concurrency: int = 2
    spool: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}; it must be 1 or more")

    @classmethod
    def from_keywords(cls, options: Mapping[str, object]) -> S3Options:
        """Check the keyword arguments of the storage.

        :raises ConfigurationError: an option is missing, unknown or invalid.
        """
        given: dict[str, Any] = dict(options)
        unknown = ", ".join(sorted(given.keys() - set(NAMES)))
        if unknown:
            known = ", ".join(NAMES)
            raise ConfigurationError(
                f"options of S3Storage: {unknown} is unknown; options are: {known}"
            )
        if "bucket" not in given:
            raise ConfigurationError("options of S3Storage: bucket is missing")
        connection = {name: given[name] for name in _CONNECTION if name in given}
        own = {name: given[name] for name in _OWN if name in given}
        plan = {name: given.get(name, default) for name, default in _PLAN.items()}
        try:
            return cls(
                BucketSettings(given["bucket"], **connection),
                PartPlan(plan["part_size"], plan["max_parts"]),
                **own,
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"options of S3Storage: {error}") from error
