"""The receivers: ours and the peers, each a command line and a place for its files."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import install
from benchmarks.install import HERE
from benchmarks.processes import Processes, free_port


@dataclass(frozen=True, slots=True)
class Place:
    """Where one receiver lives for one benchmark."""

    directory: Path
    port: int


@dataclass(frozen=True, slots=True)
class Command:
    """How it is started."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receiver:
    """One server with its options; started once per benchmark.

    :param name: tells it from the others of a benchmark.
    :param peer: its name in ``--peers``; empty: ours.
    :param build: prepares the place, gives the command.
    :param prefix: path of the collection.
    :param content: directory of its files in its place; empty: it keeps none.
    :param pattern: of the names of finished files.
    """

    name: str
    peer: str
    build: Callable[[Place], Command] = field(compare=False)
    prefix: str
    content: str
    pattern: str


class Server:
    """A receiver that runs.

    :raises install.Unavailable: it cannot be had here.
    :raises ClientError: it does not start.
    """

    def __init__(self, receiver: Receiver, directory: Path) -> None:
        self.receiver = receiver
        self.place = Place(directory, free_port())
        directory.mkdir(parents=True)
        command = receiver.build(self.place)
        self.processes = Processes(
            command.argv,
            port=self.place.port,
            log=directory / "log",
            directory=HERE.parent,
            environment=command.environment,
        )
        self.idle: dict[int, float] = {}
        self._counted: set[Path] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.place.port

    def stored(self) -> list[Path]:
        """The finished files."""
        return [path for path in self._files() if _is_finished(path)]

    def stored_since(self) -> list[Path]:
        """The finished files that were not there at the last such call."""
        found = (path for path in self._files() if path not in self._counted)
        new = [path for path in found if _is_finished(path)]
        self._counted.update(new)
        return new

    def _files(self) -> Iterator[Path]:
        root = self.place.directory / self.receiver.content
        yield from root.rglob(self.receiver.pattern) if self.receiver.content else ()

    def forget_files(self) -> None:
        """Remove the finished files."""
        for path in self.stored():
            path.unlink()
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it and remove its directory."""
        self.processes.stop()
        shutil.rmtree(self.place.directory, ignore_errors=True)


def _is_finished(path: Path) -> bool:
    """A file; where @tus/server tells beside it how long it will be, so long."""
    if path.suffix == ".json" or not path.is_file():
        return False
    told = path.with_name(f"{path.name}.json")
    if not told.is_file():
        return True
    return bool(json.loads(told.read_text())["size"] == path.stat().st_size)


def gunicorn(
    application: str, place: Place, workers: int, *options: str
) -> tuple[str, ...]:
    """A gunicorn command line; it asks for no access log and has time enough."""
    known = importlib.import_module("gunicorn.config").make_settings()
    # One for all of a user's servers, in the home directory; ours are several.
    control = ("--no-control-socket",) if "control_socket_disable" in known else ()
    return (
        *(sys.executable, "-m", "gunicorn", application),
        *("--bind", f"127.0.0.1:{place.port}", "--workers", str(workers)),
        *("--timeout", "600", *control, *options),
    )


def ours(
    name: str,
    *,
    durable: bool = False,
    workers: int = 1,
    threads: int = 8,
    worker_class: str = "gthread",
    checked: bool = True,
    fill: Callable[[Place], None] | None = None,
    environment: Callable[[], dict[str, str]] = dict,
    **settings: object,
) -> Receiver:
    """flask_chunked under gunicorn, on SQLite and the local disk.

    :param checked: with the default MD5 of the whole file.
    :param fill: prepares the place before the start.
    :param environment: more of it, known when the server is started.
    :param settings: keys of the configuration without ``CHUNKED_UPLOAD_``.
    """

    def build(place: Place) -> Command:
        told = {"DURABLE": durable, **settings}
        variables = {
            f"BENCH_CHUNKED_UPLOAD_{key}": str(value) for key, value in told.items()
        }
        variables |= {"BENCH_DIRECTORY": str(place.directory), **environment()}
        if fill is not None:
            fill(place)
        options = ["--worker-class", worker_class]
        if worker_class == "gthread":
            options += ["--threads", str(threads)]
        argv = gunicorn("benchmarks.app:create_app()", place, workers, *options)
        return Command(argv, variables)

    prefix = "/uploads/" if checked else "/unchecked/"
    return Receiver(name, "", build, prefix, "instance", "*.done")


def original(name: str = "drf-chunked-upload", workers: int = 1) -> Receiver:
    """drf-chunked-upload under Django and gunicorn's sync workers."""

    def build(place: Place) -> Command:
        install.original_packages()
        environment = {"BENCH_DIRECTORY": str(place.directory)}
        _migrate(environment)
        argv = gunicorn("benchmarks.original:application", place, workers)
        return Command(argv, environment)

    return Receiver(name, "original", build, "/uploads/", "media", "*.done")


def _migrate(environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "benchmarks.original"],
        cwd=HERE.parent,
        env={**os.environ, **environment},
        check=True,
    )


def tus_server(
    environment: Callable[[], dict[str, str]] | None = None,
) -> Receiver:
    """@tus/server with its file store.

    :param environment: tells of another store, known when the server is started.
    """

    def build(place: Place) -> Command:
        packages = install.node_packages()
        store = place.directory / "store"
        store.mkdir()
        script = str(HERE / "tus_server.mjs")
        argv = ("node", script, str(place.port), str(store))
        variables = {"BENCH_NODE": str(packages), "NODE_ENV": "production"}
        return Command(argv, variables | (environment or dict)())

    if environment is not None:
        return Receiver("@tus/s3-store", "tus-server", build, "/uploads", "", "")
    return Receiver("@tus/server", "tus-server", build, "/uploads", "store", "*")


_NGINX = """\
{user}
worker_processes 1;
daemon off;
pid {directory}/pid;
error_log {directory}/errors;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/files;
        location / {{ dav_methods PUT; }}
    }}
}}
"""


def nginx() -> Receiver:
    """nginx's WebDAV PUT: to a temporary file, then a rename."""

    def build(place: Place) -> Command:
        program = install.nginx()
        (place.directory / "files").mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = place.directory / "nginx.conf"
        configuration.write_text(
            _NGINX.format(user=user, directory=place.directory, port=place.port)
        )
        errors = str(place.directory / "errors")
        return Command((program, "-e", errors, "-c", str(configuration)))

    return Receiver("nginx DAV PUT", "nginx", build, "/", "files", "*")


def sink(mode: str, *, sync: bool = False) -> Receiver:
    """The C program.

    :param mode: ``splice`` or ``recv``.
    :param sync: fdatasync before the answer.
    """

    def build(place: Place) -> Command:
        program = install.sink()
        files = place.directory / "files"
        files.mkdir()
        argv = (str(program), str(place.port), str(files), mode)
        return Command((*argv, "sync") if sync else argv)

    name = f"C {mode}{' + fdatasync' if sync else ''}"
    return Receiver(name, mode, build, "/", "files", "*")


def hash_loop() -> Receiver:
    """The bare receive-and-hash loop in Python."""

    def build(place: Place) -> Command:
        return Command((sys.executable, "-m", "benchmarks.hashloop", str(place.port)))

    return Receiver("bare receive-and-hash loop", "hash-loop", build, "/", "", "")


def floor(workers: int, threads: int) -> Receiver:
    """Flask under the same gunicorn, for what it costs to store nothing."""

    def build(place: Place) -> Command:
        options = ("--worker-class", "gthread", "--threads", str(threads))
        return Command(
            gunicorn("benchmarks.floor:create_app()", place, workers, *options)
        )

    return Receiver("Flask, nothing stored", "flask", build, "/uploads/", "", "")


#: Names for ``--peers``.
PEERS = ("nginx", "tus-server", "original", "splice", "recv", "hash-loop", "flask")
