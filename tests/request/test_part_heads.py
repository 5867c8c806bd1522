"""Heads of parts: names, limits, and the package that parses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flask_chunked.exceptions import MalformedBody
from flask_chunked.request.part_heads import (
    MAX_HEADER,
    MAX_HEADERS,
    HeadTooLarge,
    PartHead,
    boundary_of,
    parse_head,
)


def parse(*lines: str) -> PartHead:
    """The head of a part with these headers."""
    text = "\r\n".join(["--b", *lines, "", "rest"])
    head, rest = parse_head(b"b", text.encode(), lambda: b"")
    assert rest == b"rest"
    assert head is not None
    return head


DISPOSITIONS = {
    "a field": ('name="a"', "a", None),
    "a file": ('name="a"; filename="x.bin"', "a", "x.bin"),
    "a file without a name": ('name="a"; filename=""', "a", ""),
    "no name": ('filename="x"', "", "x"),
    "extended": ("name=\"a\"; filename*=UTF-8''b%C3%BC.bin", "a", "bü.bin"),
    "extended last": (
        'name="a"; filename="x"; filename*=UTF-8\'\'b%C3%BC.bin',
        *("a", "bü.bin"),
    ),
    "extended first": (
        'filename*=UTF-8\'\'b%C3%BC.bin; filename="x"; name="a"',
        *("a", "bü.bin"),
    ),
    "a name that looks extended": (
        'name="a"; filename="filename*=x"',
        *("a", "filename*=x"),
    ),
    "quotes": (r'name="a"; filename="x\"y.bin"', "a", 'x"y.bin'),
    "percent signs stay": ('name="a"; filename="a%0Ab.bin"', "a", "a%0Ab.bin"),
    "text": ('name="ä"; filename="ü.bin"', "ä", "ü.bin"),
}


@pytest.mark.parametrize("name", DISPOSITIONS)
def test_names_come_from_the_disposition(name: str) -> None:
    text, field, filename = DISPOSITIONS[name]
    head = parse(f"Content-Disposition: form-data; {text}")
    assert (head.name, head.filename) == (field, filename)


FIELD = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("kind", "charset"),
    [
        ("text/plain", "utf-8"),
        ("text/plain; charset=iso-8859-1", "iso-8859-1"),
        ("text/plain; charset=ASCII", "ASCII"),
        ("text/plain; charset=utf-7", "utf-8"),
        ("text/plain; charset=unknown", "utf-8"),
    ],
)
def test_a_field_is_read_in_a_known_charset(kind: str, charset: str) -> None:
    head = parse(FIELD, f"Content-Type: {kind}")
    assert head.charset == charset
    assert head.header("Content-Type") == kind
    assert head.header("Content-Length") is None


def test_headers_are_limited_in_number_and_length() -> None:
    others = [f"X-{n}: y" for n in range(MAX_HEADERS - 1)]
    assert len(parse(FIELD, *others).headers) == MAX_HEADERS
    with pytest.raises(HeadTooLarge):
        parse(FIELD, *others, "X: y")
    longest = "X: " + "y" * (MAX_HEADER - 3)
    assert parse(FIELD, longest).header("X") == longest[3:]
    with pytest.raises(HeadTooLarge):
        parse(FIELD, longest + "y")


def test_a_header_without_end_is_not_read_to_its_end() -> None:
    pieces = iter([b"--b\r\nX: "] + [b"x" * 8192] * 2)
    with pytest.raises(HeadTooLarge):
        parse_head(b"b", b"", lambda: next(pieces))


@pytest.mark.parametrize(
    "boundary", [None, "", "x" * 201, "bä", "a\rb", "a\nb", "a\x00"]
)
def test_a_boundary_is_short_and_printable(boundary: str | None) -> None:
    parameters = {} if boundary is None else {"boundary": boundary}
    with pytest.raises(MalformedBody, match="1 to 200 printable"):
        boundary_of(parameters)


def test_the_longest_boundary_is_taken() -> None:
    assert boundary_of({"boundary": "x" * 200}) == b"x" * 200


def run_with(module: str, tmp_path: Path) -> str:
    """Import the parser next to a module ``multipart`` with this text."""
    (tmp_path / "multipart.py").write_text(module)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import flask_chunked.request.part_heads"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode
    return found.stderr.rstrip().rpartition("\n")[2]


def test_an_old_package_of_the_same_name_is_an_error_that_names_both(
    tmp_path: Path,
) -> None:
    told = run_with("class MultipartParser: pass", tmp_path)
    assert told.startswith("ImportError: flask_chunked needs the package multipart")
    assert "python-multipart" in told
    assert "0.0.20" in told
