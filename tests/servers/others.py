"""Servers other than gunicorn, as processes: ``python -m tests.servers.others``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.servers.gunicorn import (
    TESTS_APP,
    Server,
    free_port,
    gunicorn_command,
    wait_for_port,
)

#: Threads of those that have them.
THREADS = 16


def serve_werkzeug(app: Any, host: str, port: int) -> None:
    """The development server, a thread for each connection."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

    make_server(host, port, app, threaded=True, request_handler=Handler).serve_forever()


def serve_waitress(app: Any, host: str, port: int) -> None:
    """waitress, which calls the application when a body is complete."""
    import waitress

    waitress.serve(app, host=host, port=port, threads=THREADS)


def serve_cheroot(app: Any, host: str, port: int) -> None:
    """cheroot, CherryPy's server."""
    from cheroot.wsgi import Server as CherootServer

    CherootServer((host, port), app, numthreads=THREADS).start()


def serve_gevent(app: Any, host: str, port: int) -> None:
    """gevent's own server."""
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    WSGIServer((host, port), app).serve_forever()


SERVERS: dict[str, Callable[[Any, str, int], None]] = {
    "werkzeug": serve_werkzeug,
    "waitress": serve_waitress,
    "cheroot": serve_cheroot,
    "gevent": serve_gevent,
}

NGINX = """
daemon off;
{user}pid {tmp}/nginx.pid;
error_log {tmp}/nginx.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {tmp}/nginx-body;
    proxy_temp_path {tmp}/nginx-proxy;
    fastcgi_temp_path {tmp}/nginx-fastcgi;
    uwsgi_temp_path {tmp}/nginx-uwsgi;
    scgi_temp_path {tmp}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
            client_max_body_size 0;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


class Nginx:
    """nginx in front of a server; it has no files of its own.

    :param buffering: ``on`` or ``off``, of request bodies.
    """

    def __init__(self, behind: Server, buffering: str) -> None:
        self.tmp = behind.tmp
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/uploads/"
        home = behind.tmp / "nginx"
        home.mkdir()
        configuration = home / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                tmp=home,
                port=self.port,
                behind=behind.port,
                buffering=buffering,
                # Its workers would give root up and could not enter our directory.
                user="" if os.getuid() else "user root;\n",
            )
        )
        command = ["nginx", "-p", str(home), "-c", str(configuration)]
        with (home / "nginx.out").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        """Stop at once."""
        self._process.terminate()
        self._process.wait(15)


@contextmanager
def serve_kind(
    kind: str, tmp: Path, app: str = TESTS_APP, **settings: object
) -> Iterator[Server | Nginx]:
    """Serve with one of the servers for the length of the block.

    :param kind: a name of :data:`SERVERS`, ``gunicorn-WORKERCLASS``, or ``nginx-on``
        and ``nginx-off`` (request buffering) in front of gunicorn's gthread.
    :param app: another application than the tests' own.
    """
    name, _, how = kind.partition("-")
    if name in SERVERS:
        command = [sys.executable, "-m", "tests.servers.others", kind, "--app", app]
        server = Server(tmp, command, settings)
    else:
        worker = how if name == "gunicorn" else "gthread"
        server = Server(tmp, gunicorn_command(worker, app=app), settings)
    try:
        if name != "nginx":
            yield server
            return
        front = Nginx(server, how)
        try:
            yield front
        finally:
            front.stop()
    finally:
        server.stop()


def main() -> None:
    """Serve the tests' application, as :func:`serve_kind` asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=SERVERS)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--app", default=TESTS_APP)
    arguments = parser.parse_args()
    host, _, port = arguments.bind.partition(":")
    if arguments.kind == "gevent":
        from gevent import monkey

        monkey.patch_all()
    module, _, function = arguments.app.removesuffix("()").partition(":")
    app = getattr(import_module(module), function)()
    SERVERS[arguments.kind](app, host, int(port))


if __name__ == "__main__":
    main()
