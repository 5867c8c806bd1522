"""``python -m examples.many_machines``: starts everything; Ctrl-C stops it."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .machines import Machines, running
from .services import NotStarted
from .show import MIB, Show, report

#: Seconds that a killed host stays away.
AWAY = 5.0


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="./run many",
        description="Two hosts behind nginx, one PostgreSQL, one SeaweedFS.",
        epilog="DATABASE_URL in the environment names another PostgreSQL than the one "
        "from PyPI; the tables are made in it.",
    )
    made.add_argument(
        "--port", type=int, help="of the balancer (8000; with --show any)"
    )
    made.add_argument(
        "--show",
        action="store_true",
        help="upload a file while a host is killed and comes back, then stop",
    )
    made.add_argument(
        "--size", type=int, default=96, metavar="MIB", help="of the show's file (96)"
    )
    made.add_argument(
        "--chunk", type=int, default=4, metavar="MIB", help="of its chunks (4)"
    )
    return made


def tell(text: str) -> None:
    """A line for whoever started this."""
    print(text, flush=True)


def watch(machines: Machines) -> None:
    """Until somebody interrupts; hosts that die come back after a while."""
    died: dict[str, float] = {}
    while True:
        for host in machines.hosts:
            if host.is_running:
                continue
            if host.name not in died:
                tell(f"*** {host.name} is dead; it comes back in {AWAY:.0f} seconds")
                died[host.name] = time.monotonic()
            elif time.monotonic() > died[host.name] + AWAY:
                # Workers of a dead master would keep the port.
                host.kill()
                host.start_again()
                del died[host.name]
                tell(f"*** {host.name} is back: kill -9 -{host.pid}")
        time.sleep(0.2)


def play(machines: Machines, size: int, chunk: int) -> bool:
    """The show; was it well?"""
    seen = Show(machines, size, chunk, tell).run()
    tell(report(seen))
    return seen.is_well


def main() -> int:
    """Start, serve or show, stop."""
    arguments = parser().parse_args()
    port = arguments.port or (
        0 if arguments.show else int(os.environ.get("PORT", 8000))
    )

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    directory = Path(tempfile.mkdtemp(prefix="many-machines-"))
    try:
        with running(directory, port, quiet=arguments.show, tell=tell) as machines:
            if arguments.show:
                sizes = arguments.size * MIB, arguments.chunk * MIB
                return 0 if play(machines, *sizes) else 1
            tell(f"\nopen {machines.url} (Ctrl-C stops and forgets everything)\n")
            watch(machines)
    except NotStarted as error:
        print(f"many machines: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("\nstopped")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
