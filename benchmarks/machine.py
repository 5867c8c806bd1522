"""On what and with what a measurement was made."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks import install
from benchmarks.client import MIB

_PACKAGES = (
    "flask",
    "werkzeug",
    "flask-sqlalchemy",
    "sqlalchemy",
    "gunicorn",
    "gevent",
    "django",
    "drf-chunked-upload",
)


def describe_machine(directory: Path) -> dict[str, object]:
    """Processor, memory, system, and the file system of the measurements."""
    return {
        "processor": _first("/proc/cpuinfo", r"model name\s*:\s*(.*)") or "unknown",
        "cores": os.cpu_count(),
        "memory_mib": int(_first("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) // 1024,
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(directory),
        "free_mib": shutil.disk_usage(directory).free // MIB,
        "load_before": round(os.getloadavg()[0], 2),
    }


def available_memory() -> int:
    """Bytes that could be had without swapping."""
    return int(_first("/proc/meminfo", r"MemAvailable:\s*(\d+)") or 0) * 1024


def versions() -> dict[str, str]:
    """What is installed."""
    # Where it comes from: its own build may be a third faster than another's.
    found = {
        "python": f"{platform.python_version()} ({sys.base_prefix})",
        "sqlite": sqlite3.sqlite_version,
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in ("@tus/server", "@tus/file-store"):
        found[name] = install.node_version(name)
    found["node"] = _output(["node", "--version"])
    found["nginx"] = _output(["nginx", "-v"]).rpartition("/")[2]
    found["cc"] = _output(["cc", "--version"]).partition("\n")[0]
    revision = ["git", "-C", str(install.HERE), "describe", "--always", "--dirty"]
    found["revision"] = _output(revision)
    return {name: version for name, version in found.items() if version}


def _output(command: list[str]) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _file_system(directory: Path) -> str:
    """Type of the file system that holds the directory."""
    where = directory.resolve()
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this, *_ = line.split()
        inside = where == Path(mount) or Path(mount) in where.parents
        if inside and len(mount) >= len(best):
            best, kind = mount, this
    return kind
