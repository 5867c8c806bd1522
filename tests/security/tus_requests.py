"""Fuzzed tus requests: each header sane, nearly sane, or anything at all.

``OPEN``, ``PART`` and other words stand for uploads of the world they are sent to.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from hypothesis import strategies as st

from flask_chunked.protocol import tus
from tests.dialects.tus import BYTES, checksum
from tests.security.world import CONTENT, LATIN, NUMBERS, PATHS, one_line

KIND = BYTES["Content-Type"]

METHODS = st.sampled_from(
    [
        "HEAD",
        "PATCH",
        "PATCH",
        "PATCH",
        "POST",
        "POST",
        "POST",
        "DELETE",
        "OPTIONS",
        "GET",
        "PUT",
        "TRACE",
        "BREW",
        "patch",
    ]
)
OVERRIDES = METHODS | st.sampled_from(["", " PATCH ", "PATCH, POST", "\xe4", "A" * 999])
VERSIONS = st.sampled_from(["1.0.0"] * 12 + ["", "1", "1.0.0,1.0.0", "0.2.2", "\xe4"])
WORDS = ["OPEN", "DONE", "DEFERRED", "PART", "WAITS", "FINAL"]
WORDS_OF_UPLOADS = st.sampled_from(WORDS)
TARGETS = (
    st.just("/uploads/")
    | WORDS_OF_UPLOADS.map("/uploads/{}".format)
    | st.builds(
        "/uploads/{}{}".format,
        WORDS_OF_UPLOADS,
        st.sampled_from(["/", "//", "/file", "/x", "\x00", "%00", " "]),
    )
    | PATHS
)
BODIES = st.sampled_from([b"", b"f", CONTENT[5:], CONTENT, b"x" * 2000]) | st.binary(
    max_size=20
)
BODIES_OR_NONE = st.just(b"") | BODIES
OFFSETS = st.sampled_from(["5", "5", "0", "10"]) | NUMBERS | LATIN
LENGTHS = st.sampled_from(["10", "10", "0", "5", "2000"]) | NUMBERS | LATIN
KINDS = st.sampled_from(
    [KIND] * 6
    + [
        KIND.upper(),
        KIND + "; charset=utf-8",
        KIND + "," + KIND,
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "\xe4",
        "",
    ]
)
ALGORITHMS = st.sampled_from([*tus.CHECKSUM_SIZES, "crc32"])
FORMS_OF_CHECKSUMS = st.sampled_from(
    ["{}", "{}", "{}", " {}", "{} ", "{}=", "{},{}", "x{}", "{}\xe4"]
)


@st.composite
def checksums(draw: st.DrawFn) -> str:
    right = checksum(draw(ALGORITHMS), draw(BODIES))
    return draw(FORMS_OF_CHECKSUMS).replace("{}", right)


CHECKSUMS = checksums() | st.builds(
    "{} {}".format,
    st.sampled_from(["sha1", "md5", "sha384", "SHA1", "", "crc32c", "\xe4"]),
    LATIN | st.sampled_from(["", "=", "AAAA", "A" * 28, "A" * 16_384, "====", "_-_="]),
)
MEMBERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        [
            "/uploads/",
            "/uploads/",
            "",
            "http://[",
            "//x/uploads/",
            "https://a:b/uploads/",
            "/other/",
            "../uploads/",
            "/uploads/../",
            "%2Fuploads/",
            "javascript:",
        ]
    ),
    st.sampled_from([*WORDS, "PART", "PART", "WAITS", "NOT", "", "%ff", ".."]),
    st.sampled_from(["", "", "", "/", "?\xe4", "#\x01", "?a\tb", "\x00", "%00", ";x"]),
)
CONCATS = (
    st.builds(
        "{}{}".format,
        st.sampled_from(["final;", "final;", "final; ", "final", "partial;", "Final;"]),
        st.lists(MEMBERS, max_size=4).map(" ".join),
    )
    | st.sampled_from(["partial", "partial", "", "final;" + "PART " * 101])
    | st.builds("final;{}".format, LATIN)
    | NUMBERS
    | LATIN
)
KEYS = st.sampled_from(
    [
        "filename",
        "name",
        "filetype",
        "type",
        "contentType",
        "user",
        "status",
        "id",
        "offset",
        "",
        "ä",
        "k" * 64,
        "k" * 65,
        "__class__",
        "storage_key",
        "length",
    ]
)
TEXTS = st.sampled_from(
    [
        "a.bin",
        "",
        "../../etc/passwd",
        "a\x00b",
        "\u202egpj.exe",
        "CON",
        "n" * 2000,
        "<script>",
        "a\r\nSet-Cookie: x=y",
        "\ud7ff💩",
        "complete",
        "10",
        ".",
    ]
)
VALUES = (
    TEXTS.map(lambda text: base64.b64encode(text.encode()).decode())
    | st.binary(max_size=30).map(lambda raw: base64.b64encode(raw).decode())
    | st.sampled_from(["", "=", "YQ", "YQ=", "YQ===", "-_-_", "Y Q==", "\xe4"])
    | LATIN
)
METADATA = (
    st.builds(
        lambda pairs, comma: comma.join(" ".join(pair) for pair in pairs),
        st.lists(st.tuples(KEYS, VALUES), max_size=5),
        st.sampled_from([",", ",", ", ", " , ", ",,", ";", "\t,"]),
    )
    | st.sampled_from([",", ",,,", " ", "a,a", ",".join(map(str, range(21)))])
    | LATIN
    | NUMBERS
)
#: Values to try for each header, whatever the request.
HEADERS: dict[str, st.SearchStrategy[str]] = {
    "Tus-Resumable": VERSIONS,
    "Upload-Offset": OFFSETS,
    "Upload-Length": LENGTHS,
    "Upload-Defer-Length": st.sampled_from(["1", "1", "0", "01", ""]) | NUMBERS,
    "Upload-Metadata": METADATA,
    "Upload-Checksum": CHECKSUMS,
    "Upload-Concat": CONCATS,
    "Content-Length": NUMBERS,
    "Content-Type": KINDS,
    "Trailer": st.sampled_from(["Upload-Checksum", "upload-checksum , x", "\xe4"]),
    "X-HTTP-Method-Override": OVERRIDES,
    "Content-Encoding": st.sampled_from(["gzip", "identity"]),
    "Content-Range": st.sampled_from(["bytes 5-9/10", "bytes */0"]),
}

#: What a polite client sends with a creation.
CREATIONS = st.sampled_from(
    [
        {"Upload-Length": "10"},
        {"Upload-Defer-Length": "1"},
        {"Upload-Length": "10", "Upload-Concat": "partial"},
        {"Upload-Defer-Length": "1", "Upload-Concat": "partial"},
        {"Upload-Concat": "final;/uploads/PART"},
    ]
)
#: Where each upload stands.
STANDS = {"OPEN": 5, "DONE": 10, "DEFERRED": 5, "PART": 10, "WAITS": 5, "FINAL": 10}


@dataclass(frozen=True)
class Request:
    """One case, its words for uploads not yet resolved."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    chunked: bool


@st.composite
def creations(draw: st.DrawFn) -> Request:
    """What creates an upload, with or without bytes."""
    body = draw(BODIES)
    kind = {"Content-Type": KIND} if body else {}
    return Request("POST", "/uploads/", {**draw(CREATIONS), **kind}, body, False)


@st.composite
def patches(draw: st.DrawFn) -> Request:
    """What appends, at the right place."""
    word = draw(WORDS_OF_UPLOADS)
    headers = {"Upload-Offset": str(STANDS[word]), "Content-Type": KIND}
    if word == "DEFERRED" and draw(st.booleans()):
        headers["Upload-Length"] = "10"
    body = draw(BODIES if STANDS[word] < 10 else BODIES_OR_NONE)
    return Request("PATCH", f"/uploads/{word}", headers, body, False)


OTHERS = st.builds(
    Request, METHODS, TARGETS, st.just({}), BODIES_OR_NONE, st.just(False)
)
SANE = creations() | creations() | patches() | patches() | OTHERS
ONE_IN_EIGHT = st.integers(0, 7).map(lambda drawn: drawn == 0)
NAMES = st.sets(st.sampled_from(sorted(HEADERS)), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request that could be right, with up to three headers that may not be."""
    sane = draw(SANE)
    headers = {"Tus-Resumable": "1.0.0", **sane.headers}
    method = sane.method
    if draw(ONE_IN_EIGHT):
        headers["X-HTTP-Method-Override"] = method
        method = draw(METHODS)
    for name in draw(NAMES):
        headers[name] = draw(HEADERS[name])
    return Request(
        method,
        sane.path,
        {name: one_line(value) for name, value in headers.items()},
        sane.body,
        chunked="Content-Length" not in headers and draw(st.booleans()),
    )
