"""OpenStack Swift with its S3 API on loopback: the second opinion on what S3 means.

One device, one replica. It needs a file system with extended attributes of users.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from examples.many_machines.services import (
    BUCKET,
    LOOPBACK,
    NotStarted,
    Service,
    find_program,
    free_ports,
    make_bucket,
)
from tests.s3 import S3Server

KINDS = ("object", "container", "account")
ACCESS, SECRET = "test:tester", "testing"
_RING = """\
[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = default
default = yes
"""
_COMMON = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {node}
mount_check = false
log_level = WARNING
"""
_BACKEND = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PIPELINE = "catch_errors gatekeeper cache listing_formats s3api tempauth copy slo dlo"
_PROXY = """\
[pipeline:main]
pipeline = {pipeline} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = {host}:{nobody}
"""


def find_swift() -> str:
    """Where its programs are; skips where it is not installed, or cannot work."""
    try:
        program = find_program("swift-proxy-server", "pip install swift")
    except NotStarted:
        pytest.skip("Swift is not installed (extra: s3-server)")
    return str(Path(program).parent)


@contextmanager
def swift(directory: Path) -> Iterator[S3Server]:
    """A server with its data below the directory; skips where it cannot be had."""
    programs = find_swift()
    etc, node = directory / "etc", directory / "node"
    (node / "d1").mkdir(parents=True)
    etc.mkdir()
    try:
        os.setxattr(node, "user.swift", b"")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    (etc / "swift.conf").write_text(_RING)
    *backends, proxy, nobody = free_ports(5)
    user = pwd.getpwuid(os.getuid()).pw_name
    common = {"host": LOOPBACK, "user": user, "etc": etc, "node": node}
    with ExitStack() as stack:
        for kind, port in zip(KINDS, backends, strict=True):
            _ring(programs, etc, kind, port)
            text = _COMMON + _BACKEND
            told = text.format(port=port, kind=kind, **common)
            stack.enter_context(_running(programs, etc, kind, port, told))
        filters = [
            f"[filter:{name}]\nuse = egg:swift#{name}\n"
            for name in _PIPELINE.split()
            if name not in ("s3api", "tempauth", "cache")
        ]
        told = (_COMMON + _PROXY).format(
            port=proxy, pipeline=_PIPELINE, nobody=nobody, **common
        )
        told += "".join(filters)
        stack.enter_context(_running(programs, etc, "proxy", proxy, told))
        server = S3Server(f"http://{LOOPBACK}:{proxy}", ACCESS, SECRET)
        _wait(server, etc / "proxy.log")
        yield server


def _ring(programs: str, etc: Path, kind: str, port: int) -> None:
    builder = (f"{programs}/swift-ring-builder", f"{etc}/{kind}.builder")
    for step in (
        ("create", "6", "1", "1"),
        ("add", f"r1z1-{LOOPBACK}:{port}/d1", "1"),
        ("rebalance",),
    ):
        subprocess.run([*builder, *step], check=True, capture_output=True, timeout=60)


@contextmanager
def _running(
    programs: str, etc: Path, kind: str, port: int, configuration: str
) -> Iterator[None]:
    path = etc / f"{kind}-server.conf"
    path.write_text(configuration)
    command = [f"{programs}/swift-{kind}-server", str(path)]
    service = Service(command, etc / f"{kind}.log")
    try:
        service.wait_for(port)
        yield
    finally:
        service.kill()


def _wait(server: S3Server, log: Path) -> None:
    told = {
        "BUCKET": BUCKET,
        "BUCKET_ENDPOINT": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access,
        "AWS_SECRET_ACCESS_KEY": server.secret,
    }
    deadline = time.monotonic() + 30
    while not make_bucket(told):
        if time.monotonic() > deadline:
            raise RuntimeError(f"Swift takes nothing:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
