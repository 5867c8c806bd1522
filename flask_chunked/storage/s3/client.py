"""The boto3 client of one bucket: its settings, and how it is created.

Imports boto3 only when a client is created.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from ...exceptions import ConfigurationError

#: boto3's session of each process. A session parses the description of S3, which takes
#: 60 ms.
_SESSIONS: dict[int, Any] = {}
_SESSIONS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where the bucket is and how to connect to it.

    :param name: name of the bucket.
    :param access_key: ``None``: boto3 finds credentials (environment, instance role).
    :param path_style: the bucket's name is in the URL's path, not in the host name.
    :param checksum: how the bytes of a request are checked; see ``bucket.CHECKSUMS``.
    :param connect_timeout: seconds.
    :param read_timeout: seconds without an answer.
    :param attempts: how often a request is sent at most.
    """

    name: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    path_style: bool = False
    checksum: str = "md5"
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    attempts: int = 4


def create_client(settings: BucketSettings) -> Any:
    """A new client in this process.

    :raises ConfigurationError: boto3 is not installed.
    """
    try:
        # Extra: s3.
        from boto3.session import Session
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError(
            "S3Storage needs boto3: pip install 'flask-chunked[s3]'"
        ) from error
    config = Config(
        signature_version="s3v4",
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        # Old servers refuse checksums that they do not know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=64,
        s3={"addressing_style": "path" if settings.path_style else "auto"},
    )
    # A session must not be used by two threads at once.
    with _SESSIONS_LOCK:
        session = _SESSIONS.get(os.getpid()) or Session()
        _SESSIONS[os.getpid()] = session
        return session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region or session.region_name or "us-east-1",
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.session_token,
            config=config,
        )
