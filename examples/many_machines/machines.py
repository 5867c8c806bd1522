"""The hosts behind the balancer, and everything that they stand on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .services import LOOPBACK, Service, free_ports, nginx, postgresql, seaweedfs

APP = "examples.many_machines.app:create_app()"


class Host:
    """One application host: a gunicorn with a disk of its own.

    :param shared: environment that all hosts have.
    :param quiet: its requests are logged to its disk, not to our terminal.
    """

    def __init__(
        self,
        name: str,
        port: int,
        disk: Path,
        shared: Mapping[str, str],
        *,
        quiet: bool,
    ) -> None:
        self.name = name
        self.port = port
        spool = disk / "spool"
        spool.mkdir(parents=True)
        own = {
            "HOST_NAME": name,
            "INSTANCE": str(disk / "instance"),
            "SPOOL": str(spool),
            "TMPDIR": str(spool),
        }
        command = [
            *(sys.executable, "-m", "gunicorn", APP, "--bind", f"{LOOPBACK}:{port}"),
            *("--workers", "1", "--worker-class", "gthread", "--threads", "32"),
            *("--log-level", "warning"),
        ]
        log = disk / "log" if quiet else None
        self.service = Service(command, log, {**shared, **own})

    @property
    def pid(self) -> int:
        """Of its first process, and of its process group."""
        return self.service.process.pid

    @property
    def is_running(self) -> bool:
        """Is it there?"""
        return self.service.is_running

    def wait(self) -> None:
        """Until it listens."""
        self.service.wait_for(self.port)

    def kill(self) -> None:
        """``kill -9``, as if somebody had pulled its plug."""
        self.service.kill()

    def start_again(self) -> None:
        """On the same port, with the same disk."""
        self.service.start_again()
        self.wait()


@dataclass(frozen=True, slots=True)
class Machines:
    """All of them, running.

    :param url: of the balancer, with a slash at the end.
    """

    url: str
    hosts: tuple[Host, ...]


@contextmanager
def running(
    directory: Path,
    port: int,
    *,
    count: int = 2,
    quiet: bool,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Machines]:
    """Start everything, and stop it at the end.

    :param directory: empty; disks of the hosts and of SeaweedFS are made in it.
    :param port: of the balancer; 0: any.
    :param count: how many hosts.
    :raises NotStarted: something is missing.
    """
    with ExitStack() as stack:
        ports = free_ports(count + 1)
        port = port or ports[-1]
        # First, because it is the one that has to be installed by hand.
        stack.enter_context(nginx(directory / "nginx", port, ports[:count]))
        tell(f"nginx        {LOOPBACK}:{port}, {count} hosts in turn")
        database = stack.enter_context(postgresql())
        tell("PostgreSQL   one database for all hosts")
        bucket = stack.enter_context(seaweedfs(directory / "seaweedfs"))
        tell(f"SeaweedFS    {bucket['BUCKET_ENDPOINT']}, one bucket for all hosts")
        shared = {
            **bucket,
            "FLASK_SQLALCHEMY_DATABASE_URI": database,
            "FLASK_CHUNKED_UPLOAD_STORAGE_CLASS": "examples.many_machines.app:bucket",
        }
        hosts = []
        for number, one in enumerate(ports[:count], 1):
            disk = directory / f"host-{number}"
            host = Host(f"host-{number}", one, disk, shared, quiet=quiet)
            stack.callback(host.service.stop)
            hosts.append(host)
        for host in hosts:
            host.wait()
            tell(f"{host.name}       {LOOPBACK}:{host.port}, kill -9 -{host.pid}")
        yield Machines(f"http://{LOOPBACK}:{port}/", tuple(hosts))
