"""One app for all fuzzed cases, with a few uploads that no case may spoil.

Header values go into the environ as a server would put them there, so that also those
are tried which a polite client refuses to send.
"""

from __future__ import annotations

import io
import string
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from werkzeug.test import run_wsgi_app

from tests.apps import dispose, make_app, registered, rows, stored_files

#: What every upload begins with.
CONTENT = b"abcdefghij"

#: The word that stands for an upload in fuzzed text, and its id.
Words = Mapping[str, str]


class World(ABC):
    """An app with uploads; a subclass says which.

    :ivar ids: those of all uploads.
    :ivar untouched: the uploads as each case finds them, as :meth:`snapshot` has it.
    """

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.app: Flask = make_app(
            tmp, CHUNKED_UPLOAD_DOWNLOADS=True, CHUNKED_UPLOAD_DURABLE=False
        )
        self._groups = [(fill, fill()) for fill in self.fillers()]
        self.ids = self._all_ids()
        self.untouched = self.snapshot()

    @abstractmethod
    def fillers(self) -> Sequence[Callable[[], Words]]:
        """Functions that make the uploads.

        Those of one function refer to each other and are removed together.
        """

    def _all_ids(self) -> Words:
        return {word: one for _, ids in self._groups for word, one in ids.items()}

    def resolve(self, text: str) -> str:
        """Words that stand for uploads become their ids."""
        for word, upload_id in self.ids.items():
            text = text.replace(word, upload_id)
        return text.replace("NOT", "00000000-0000-4000-8000-000000000000")

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        query: str,
        body: bytes,
        *,
        chunked: bool = False,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers and body of its answer."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if chunked:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
            environ["wsgi.input_terminated"] = True
        else:
            environ["CONTENT_LENGTH"] = str(len(body))
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            plain = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
            environ[key if plain else f"HTTP_{key}"] = value
        app_iter, status, answered = run_wsgi_app(self.app, environ, buffered=True)
        return int(status[:3]), dict(answered), b"".join(app_iter)

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """Offset, length, state and bytes of each upload."""
        storage = registered(self.app).engine.storage
        found: dict[str, tuple[object, ...]] = {}
        for row in rows(self.app):
            content = b""
            if row.blob is not None and row.offset:
                with storage.open(row.blob) as reader:
                    content = reader.read()
            found[str(row.id)] = (row.offset, row.length, row.status.value, content)
        return found

    @contextmanager
    def case(self) -> Iterator[None]:
        """One case: the next finds the uploads untouched even where this one fails."""
        try:
            yield
        except BaseException:
            self.repair(self.snapshot())
            raise

    def repair(self, after: Mapping[str, tuple[object, ...]]) -> None:
        """Remove what a lucky case made, and make again what it removed or moved."""
        if after == self.untouched:
            return
        spoilt = [
            (fill, ids)
            for fill, ids in self._groups
            if any(after.get(one) != self.untouched[one] for one in ids.values())
        ]
        intact = [group for group in self._groups if group not in spoilt]
        kept = {one for _, ids in intact for one in ids.values()}
        client = self.app.test_client()
        for name in after:
            if name not in kept:
                assert client.delete(f"/uploads/{name}").status_code == 204
        if not spoilt:
            return
        assert self.snapshot() == {name: self.untouched[name] for name in kept}
        stems = {path.stem for path in stored_files(self.tmp)}
        assert stems <= kept
        self._groups = [*intact, *((fill, fill()) for fill, _ in spoilt)]
        self.ids = self._all_ids()
        self.untouched = self.snapshot()

    def require_unspoilt(self) -> None:
        """At the end: the uploads are as they were, and nothing is left beside them."""
        assert self.snapshot() == self.untouched
        left = [path for path in stored_files(self.tmp) if ".staging" in path.parts]
        assert left == []


SomeWorld = TypeVar("SomeWorld", bound=World)


@contextmanager
def made(kind: type[SomeWorld]) -> Iterator[SomeWorld]:
    """A world in a directory of its own, for the length of the block."""
    with tempfile.TemporaryDirectory() as name:
        world = kind(Path(name))
        try:
            yield world
        finally:
            dispose(world.app)


def thorough(cases: int) -> settings:
    """Hypothesis, as these tests want it."""
    return settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def one_line(text: str) -> str:
    """As no server passes line ends on in a header."""
    return text.replace("\n", "").replace("\r", "")


LATIN = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
NUMBERS = st.sampled_from(
    [
        "0",
        "4",
        "5",
        "9",
        "10",
        "-1",
        "+5",
        "1e3",
        "9" * 19,
        "9" * 25,
        "9" * 5000,
        "\xb2",
        " 5",
        "5 ",
        "0x5",
        "",
        "*",
        str(2**63),
        str(2**63 - 1),
    ]
)
PRINTABLE = st.text(string.printable, max_size=30)
IDS = st.sampled_from(
    [
        "OPEN",
        "OPEN",
        "DONE",
        "NOT",
        "..",
        ".",
        "%2e%2e",
        "x" * 5000,
        "a\x00b",
        "\u202e",
        "OPEN/",
        "OPEN/file",
        "DONE/file",
        "OPEN/x",
        "/OPEN",
        "OPEN//",
        "static",
        "NOT ",
        "{OPEN}",
        "urn:uuid:OPEN",
        "0x5",
        "1",
        "null",
    ]
)
PATHS = st.one_of(
    st.just("/uploads/"),
    st.just("/uploads"),
    IDS.map("/uploads/{}".format),
    PRINTABLE.map(lambda text: "/uploads/" + text.replace("?", "")),
)
