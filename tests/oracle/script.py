"""Requests for the original and for this package, byte for byte the same."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from werkzeug.test import EnvironBuilder

DATA = b"0123456789"
MD5 = hashlib.md5(DATA).hexdigest()
UNKNOWN = "00000000-0000-4000-8000-000000000001"
#: Blueprint, and view of the original, with ``max_bytes = 9``.
SMALL = "/small/"
#: The same with ``do_checksum_check = False``.
UNCHECKED = "/unchecked/"


@dataclass(frozen=True)
class Step:
    """One request, or a leap in time.

    :param name: names the step, and the id in its answer for later paths.
    :param path: may hold ``{name}`` for the id that an earlier step was given.
    :param body: base64.
    :param user: ``None``: nobody.
    :param days: time that passes before the request.
    """

    name: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    content_type: str = ""
    user: str | None = "anna"
    days: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the process that the original runs in."""
        return asdict(self)


def step(
    name: str,
    method: str,
    path: str,
    value: str | None = None,
    *,
    form: Mapping[str, str | bytes] | None = None,
    raw: bytes | None = None,
    user: str | None = "anna",
    days: int = 0,
) -> Step:
    """A step; bytes in the form are file parts.

    :param value: Content-Range.
    :param raw: a body that is no form.
    """
    parts: dict[str, Any] = {
        key: (io.BytesIO(item), "part.bin") if isinstance(item, bytes) else item
        for key, item in (form or {}).items()
    }
    body, content_type = raw or b"", "" if raw is None else "application/octet-stream"
    if form is not None:
        builder = EnvironBuilder(
            method="POST", data=parts, content_type="multipart/form-data"
        )
        environ = builder.get_environ()
        body = environ["wsgi.input"].read()
        content_type = environ["CONTENT_TYPE"]
        builder.close()
    headers = {} if value is None else {"Content-Range": value}
    return Step(
        name,
        method,
        path,
        headers,
        base64.b64encode(body).decode(),
        content_type,
        user,
        days,
    )


def chunk(
    name: str,
    path: str,
    data: bytes,
    value: str | None,
    *,
    filename: str | None = "a.bin",
    **options: Any,
) -> Step:
    """A PUT with a file part and a filename."""
    form: dict[str, str | bytes] = {"file": data}
    if filename is not None:
        form["filename"] = filename
    return step(name, "PUT", path, value, form=form, **options)


def whole(
    name: str,
    data: bytes,
    path: str = "/uploads/",
    *,
    md5: str | None = None,
    user: str = "anna",
) -> Step:
    """A POST with the whole file."""
    form: dict[str, str | bytes] = {"file": data, "filename": "a.bin"}
    if md5 is not None:
        form["md5"] = md5
    return step(name, "POST", path, form=form, user=user)


def complete(name: str, path: str, md5: str = MD5, **options: Any) -> Step:
    """A POST with the checksum."""
    return step(name, "POST", path, form={"md5": md5}, **options)


def documented() -> Iterator[Step]:
    """What the original's README shows: chunks, whole file, list, its errors."""
    first = "bytes 0-4/10"
    yield chunk("c1", "/uploads/", DATA[:5], first)
    yield step("show", "GET", "/uploads/{c1}/")
    yield step("list", "GET", "/uploads/")
    yield chunk("no range", "/uploads/{c1}/", DATA[5:], None)
    yield chunk("bad range", "/uploads/{c1}/", DATA[5:], "bytes 5-9")
    yield chunk("open range", "/uploads/{c1}/", DATA[5:], "bytes 5-9/*")
    yield step("no chunk", "PUT", "/uploads/{c1}/", "bytes 5-9/10", form={"x": "y"})
    yield chunk("short chunk", "/uploads/{c1}/", DATA[5:8], "bytes 5-9/10")
    yield chunk("long chunk", "/uploads/{c1}/", DATA, "bytes 5-9/10")
    yield chunk("ahead", "/uploads/{c1}/", DATA[6:], "bytes 6-9/10")
    yield chunk("behind", "/uploads/{c1}/", DATA[:4], "bytes 0-3/10")
    yield chunk("past total", "/uploads/{c1}/", b"x" * 7, "bytes 5-11/10")
    yield chunk("c2", "/uploads/{c1}/", DATA[5:], "bytes 5-9/10")
    yield step("no checksum", "POST", "/uploads/{c1}/", form={"x": "y"})
    yield complete("wrong checksum", "/uploads/{c1}/", "0" * 32)
    yield complete("complete", "/uploads/{c1}/")
    yield step("show complete", "GET", "/uploads/{c1}/")
    yield chunk("after the end", "/uploads/{c1}/", b"xx", "bytes 0-1/10")
    yield whole("whole", DATA, md5=MD5)
    yield step("whole without file", "POST", "/uploads/", form={"md5": MD5})
    yield step("show unknown", "GET", f"/uploads/{UNKNOWN}/")
    yield chunk("append unknown", f"/uploads/{UNKNOWN}/", DATA, "bytes 0-9/10")
    yield complete("complete unknown", f"/uploads/{UNKNOWN}/")
    yield chunk("limit", SMALL, DATA, "bytes 0-9/10")
    yield chunk("limit by total", SMALL, DATA[:5], "bytes 0-4/10")
    yield whole("whole above limit", DATA, SMALL, md5=MD5)
    yield chunk("below limit", SMALL, DATA[:9], "bytes 0-8/9")
    yield chunk("u1", UNCHECKED, DATA, "bytes 0-9/10")
    yield step("unchecked", "POST", UNCHECKED + "{u1}/", form={})
    yield whole("whole unchecked", DATA, UNCHECKED)


def users() -> Iterator[Step]:
    """Who may do what with whose upload."""
    yield chunk("mine", "/uploads/", DATA[:5], "bytes 0-4/10", user="ben")
    path = "/uploads/{mine}/"
    for who in ("carl", None):
        name = who or "nobody"
        yield step(f"{name} shows", "GET", path, user=who)
        yield chunk(f"{name} appends", path, DATA[5:], "bytes 5-9/10", user=who)
        yield complete(f"{name} completes", path, user=who)
        yield step(f"{name} lists", "GET", "/uploads/", user=who)
    yield chunk("nobody creates", "/uploads/", DATA[:5], "bytes 0-4/10", user=None)
    yield step("ben lists", "GET", "/uploads/", user="ben")
    yield chunk("ben appends", path, DATA[5:], "bytes 5-9/10", user="ben")
    yield complete("ben completes", path, user="ben")


def expiry() -> Iterator[Step]:
    """Two days later."""
    yield chunk("open", "/uploads/", DATA[:5], "bytes 0-4/10", user="dora")
    yield whole("kept", DATA, md5=MD5, user="dora")
    yield chunk(
        "late chunk", "/uploads/{open}/", DATA[5:], "bytes 5-9/10", user="dora", days=2
    )
    yield complete("late completion", "/uploads/{open}/", user="dora")
    yield step("late look", "GET", "/uploads/{open}/", user="dora")
    yield step("late list", "GET", "/uploads/", user="dora")
    yield step("finished stays", "GET", "/uploads/{kept}/", user="dora")


def otherwise() -> Iterator[Step]:
    """What the original gets wrong, or does not have."""
    yield chunk("end is total", "/uploads/", DATA + b"!", "bytes 0-10/10")
    yield chunk("starts at 50", "/uploads/", DATA, "bytes 50-59/100")
    yield chunk("ten", "/uploads/", DATA, "bytes 0-9/100")
    yield complete("ten of a hundred", "/uploads/{ten}/")
    yield chunk("grow", "/uploads/", DATA[:5], "bytes 0-4/10")
    yield chunk("total grows", "/uploads/{grow}/", DATA[5:], "bytes 5-9/999")
    yield chunk("u2", UNCHECKED, DATA[:5], "bytes 0-4/10")
    yield step("half unchecked", "POST", UNCHECKED + "{u2}/", form={})
    yield whole("wrong whole", DATA, md5="0" * 32, user="fred")
    yield whole("whole without checksum", DATA, user="fred")
    yield step("list of fred", "GET", "/uploads/", user="fred")
    yield chunk("r1", "/uploads/", DATA[:5], "bytes 0-4/10")
    yield chunk("r2", "/uploads/{r1}/", DATA[5:], "bytes 5-9/10")
    yield chunk("chunk again", "/uploads/{r1}/", DATA[5:], "bytes 5-9/10")
    yield complete("capital letters", "/uploads/{r1}/", MD5.upper())
    yield complete("first completion", "/uploads/{r1}/")
    yield complete("second completion", "/uploads/{r1}/")
    yield chunk("last chunk after the end", "/uploads/{r1}/", DATA[5:], "bytes 5-9/10")
    yield whole("empty", b"", md5=hashlib.md5(b"").hexdigest())
    yield chunk("empty by put", "/uploads/", b"", "bytes */0")
    text = {"file": "0123456789", "filename": "a.bin"}
    yield step("text", "PUT", "/uploads/", "bytes 0-9/10", form=text)
    yield chunk("5,000 digits", "/uploads/", DATA, f"bytes 0-9/{'9' * 5000}")
    yield chunk("30 digits", "/uploads/", DATA, f"bytes 0-9/{10**30}")
    yield step("look at malformed", "GET", "/uploads/malformed/")
    yield chunk("append malformed", "/uploads/malformed/", DATA, "bytes 0-9/10")
    yield chunk("path", "/uploads/", DATA, "bytes 0-9/10", filename="../../etc/passwd")
    yield chunk("no filename", "/uploads/", DATA, "bytes 0-9/10", filename=None)
    yield step("raw", "PUT", "/uploads/", "bytes 0-9/10", raw=DATA)
    yield chunk("d1", "/uploads/", DATA[:5], "bytes 0-4/10")
    yield step("head", "HEAD", "/uploads/{d1}/")
    yield step("patch", "PATCH", "/uploads/{d1}/", form={})
    yield step("options", "OPTIONS", "/uploads/{d1}/")
    yield step("without slash", "GET", "/uploads/{d1}")
    yield step("delete", "DELETE", "/uploads/{d1}/")
    yield chunk("e1", "/uploads/", DATA[:5], "bytes 0-4/10", user="emma")
    yield step("list of emma", "GET", "/uploads/", user="emma")
    yield whole("finished of emma", DATA, md5=MD5, user="emma")
    yield step("list has finished", "GET", "/uploads/", user="emma")


#: In one run: time only goes on.
SCRIPT: tuple[Step, ...] = (*documented(), *users(), *otherwise(), *expiry())
