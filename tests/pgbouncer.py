"""A real PgBouncer in transaction mode before a PostgreSQL of tests."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.servers.gunicorn import free_port

#: As few connections to the server that clients share it all the time.
POOL = 2
CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
logfile = {log}
pidfile =
{more}
"""


def find_pgbouncer() -> str | None:
    """Its program; Debian keeps it where users' paths do not look."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pgbouncer(server: URL) -> Iterator[URL]:
    """The server's URL by way of a pooler. Skips where there is none."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip("PgBouncer is not installed (package pgbouncer)")
    directory = Path(server.query["host"])  # type: ignore[arg-type]
    # It does not run as root, and whoever it is must get at the server's socket.
    owner = pwd.getpwuid(directory.stat().st_uid)
    # Beside the server's, since its user gets in there.
    home = directory.parent / "pgbouncer"
    home.mkdir()
    (home / "users").write_text(f'"{server.username}" ""\n')
    listen = free_port()
    (home / "ini").write_text(
        CONFIGURATION.format(
            host=directory,
            port=server.port or 5432,
            listen=listen,
            users=home / "users",
            log=home / "log",
            pool=POOL,
            more="" if is_old(program) else "max_prepared_statements = 0",
        )
    )
    command = [program, "-q", str(home / "ini")]
    if os.getuid() == 0:
        shutil.chown(home, owner.pw_uid)
        command[1:1] = ["-u", owner.pw_name]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(listen, process, home / "log")
            query = {k: v for k, v in server.query.items() if k != "host"}
            yield server.set(host="127.0.0.1", port=listen, query=query)
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(home)


def is_old(program: str) -> bool:
    """Does it not know prepared statements? (Before 1.21.)"""
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    return found is None or (int(found[1]), int(found[2])) < (1, 21)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it listens."""
    end = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            told = log.read_text() if log.exists() else ""
            raise RuntimeError(f"PgBouncer does not start: {told}")
        time.sleep(0.02)
