"""A receiver as real processes: start, processor time, memory, stop.

Reads Linux's ``/proc``; knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.client import HOST, MIB, ClientError

_TICKS = os.sysconf("SC_CLK_TCK")

#: Seconds that a receiver has to start, and to stop when asked.
START = 60.0
STOP = 15.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Processes:
    """A server with its workers, in a process group of its own.

    :param command: stays in the foreground.
    :param log: where its output goes.
    :raises ClientError: it does not listen in time; with the end of the log.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not self._listens(port):
            self.stop()
            raise ClientError(f"did not start: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log on one line."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-3:])[-500:]

    def pids(self) -> list[int]:
        """Process ids of the server and of all below it."""
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, with that of children that have ended."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / _TICKS

    def memory(self, field: str) -> dict[int, float]:
        """A line of ``/proc/PID/status`` (``VmRSS``, ``VmHWM``) in MiB by process."""
        return {pid: _status(pid, field) / MIB for pid in self.pids()}

    def forget_peak(self) -> None:
        """Let ``VmHWM`` begin again at the present size, where the system lets us."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """Ask it to stop; kill what does not."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP)

    def _listens(self, port: int) -> bool:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    return True
            time.sleep(0.02)
        return False


def _cpu_ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # After the name in brackets, which may hold anything: utime stime cutime cstime.
    return sum(map(int, text.rpartition(")")[2].split()[11:15]))


def _status(pid: int, field: str) -> int:
    """Bytes; 0 where the process has gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
