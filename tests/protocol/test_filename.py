"""File names: what is shown of them, and how they travel in Content-Disposition."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_chunked.protocol.filename import (
    display_name,
    from_disposition,
    to_disposition,
)

any_text = st.text(st.characters(), max_size=400)

# Bidi controls and look-alikes as escapes: an editor must not hide them.
NAMES = [
    pytest.param(None, "upload", id="absent"),
    pytest.param("", "upload", id="empty"),
    pytest.param("video.mp4", "video.mp4", id="plain"),
    pytest.param("a b.tar.gz", "a b.tar.gz", id="inner-space-and-dots"),
    pytest.param("/etc/passwd", "passwd", id="absolute-path"),
    pytest.param("../../x.bin", "x.bin", id="traversal"),
    pytest.param("..\\..\\x.bin", "x.bin", id="windows-traversal"),
    pytest.param("C:\\fakepath\\x.bin", "x.bin", id="windows-path"),
    pytest.param("a\\b/c.bin", "c.bin", id="mixed-separators"),
    pytest.param("a/b\\c.bin", "c.bin", id="mixed-separators-reversed"),
    pytest.param("dir/", "upload", id="directory"),
    pytest.param("..", "upload", id="dots"),
    pytest.param("a/..", "upload", id="dots-after-a-path"),
    pytest.param(" . . ", "upload", id="dots-and-spaces"),
    pytest.param(".bashrc", "bashrc", id="leading-dot"),
    pytest.param("\u00a0\u3000. x.bin", "x.bin", id="leading-unicode-spaces"),
    pytest.param("x.bin. .", "x.bin", id="trailing-dots-and-spaces"),
    pytest.param("x\x00.bin", "x.bin", id="nul"),
    pytest.param("x\r\nSet-Cookie: a.bin", "xSet-Cookie: a.bin", id="crlf"),
    pytest.param("x\x1b[31m\x7f.bin", "x[31m.bin", id="c0-and-del"),
    pytest.param("x\x85\x9b.bin", "x.bin", id="c1"),
    pytest.param("x\u2028\u2029.bin", "x.bin", id="line-separators"),
    pytest.param("x\ud800.bin", "x.bin", id="lone-surrogate"),
    pytest.param("cod\u202egpj.exe", "codgpj.exe", id="bidi-override"),
    pytest.param("\u2066x\u2069\u200f.bin", "x.bin", id="bidi-isolates"),
    pytest.param("x\u200b\u200d\ufeff\u2060\u00ad.bin", "x.bin", id="zero-width"),
    pytest.param("x\U000e0041.bin", "x.bin", id="tag-characters"),
    pytest.param("\u06001.bin", "\u06001.bin", id="visible-format-kept"),
    pytest.param("na\u0308me.bin", "n\u00e4me.bin", id="nfc"),
    pytest.param("na\u200b\u0308me.bin", "n\u00e4me.bin", id="nfc-after-stripping"),
    pytest.param("\U0001f600.bin", "\U0001f600.bin", id="emoji"),
    pytest.param(".\u200b.\u200b/x", "x", id="hidden-traversal"),
    pytest.param("\u200b.x", "x", id="hidden-leading-dot"),
    pytest.param("CON", "_CON", id="device"),
    pytest.param("con.txt", "_con.txt", id="device-with-extension"),
    pytest.param("NUL.tar.gz", "_NUL.tar.gz", id="device-with-extensions"),
    pytest.param("aux .txt", "_aux .txt", id="device-and-space"),
    pytest.param("Com1", "_Com1", id="port"),
    pytest.param("LPT\u00b9.txt", "_LPT\u00b9.txt", id="port-superscript"),
    pytest.param("CONIN$", "_CONIN$", id="console-input"),
    pytest.param("nul:x", "_nul:x", id="device-stream"),
    pytest.param("C\u200bON", "_CON", id="hidden-device"),
    pytest.param("dir/prn.", "_prn", id="device-in-a-path"),
    pytest.param("console.txt", "console.txt", id="no-device"),
    pytest.param("COM10", "COM10", id="no-port"),
    pytest.param("a" * 255, "a" * 255, id="longest"),
    pytest.param("a" * 256, "a" * 255, id="too-long"),
    pytest.param("a" * 300 + ".gz", "a" * 252 + ".gz", id="extension-kept"),
    pytest.param("a." + "b" * 300, "a." + "b" * 253, id="no-sensible-extension"),
    pytest.param("a" * 300 + ". x", "a" * 252 + ". x", id="space-in-extension"),
    pytest.param("\u20ac" * 100, "\u20ac" * 85, id="truncated-between-characters"),
    pytest.param(
        "\u20ac" * 100 + ".gz", "\u20ac" * 84 + ".gz", id="truncated-with-extension"
    ),
    pytest.param(
        "x" + " " * 300 + "y" * 10 + ".bin", "x.bin", id="no-space-before-extension"
    ),
    pytest.param("CON" + " " * 300 + "x", "_CON", id="device-by-truncation"),
    pytest.param(
        "CON." + "a" * 300, "_CON." + "a" * 250, id="long-device-within-the-limit"
    ),
    pytest.param("a" * 10**6 + ".bin", "a" * 251 + ".bin", id="very-long"),
    pytest.param("\u0301" * 10**6, "\u0301" * 127, id="very-many-marks"),
]


@pytest.mark.parametrize(("raw", "expected"), NAMES)
def test_display_name(raw: str | None, expected: str) -> None:
    assert display_name(raw) == expected


@given(any_text)
@example("CON" + " " * 300 + ".x")
@example("a" * 254 + "\u0301.b")
def test_display_name_is_safe_and_idempotent(raw: str) -> None:
    name = display_name(raw)
    assert 0 < len(name.encode()) <= 255
    assert name == unicodedata.normalize("NFC", name)
    assert not set(name) & set("/\\\x00\r\n\u202e\u200b")
    assert name[0] not in ". " and name[-1] not in ". "
    assert display_name(name) == name


DISPOSITIONS = [
    pytest.param("attachment; filename=x.bin", "x.bin", id="token"),
    pytest.param('attachment; filename="a b.bin"', "a b.bin", id="quoted"),
    pytest.param('ATTACHMENT;FILENAME="x"', "x", id="any-case-no-space"),
    pytest.param('attachment ; filename = "x" ', "x", id="spaces-around"),
    pytest.param('attachment; filename="x";', "x", id="trailing-semicolon"),
    pytest.param('form-data; name="f"; filename="x"', "x", id="form-data"),
    pytest.param('inline; filename="a;b=c.bin"', "a;b=c.bin", id="semicolon-quoted"),
    pytest.param(r'attachment; filename="a\"b\\c"', r'a"b\c', id="quoted-pairs"),
    pytest.param(
        r'attachment; filename="C:\dir\x.bin"', r"C:\dir\x.bin", id="bare-backslashes"
    ),
    pytest.param('attachment; filename="n%C3%A4me.bin"', "n\u00e4me.bin", id="blueimp"),
    pytest.param("attachment; filename=n%C3%A4.bin", "n\u00e4.bin", id="blueimp-token"),
    pytest.param('attachment; filename="100%.bin"', "100%.bin", id="bare-percent"),
    pytest.param('attachment; filename="5% %20x"', "5% %20x", id="some-bare-percent"),
    pytest.param('attachment; filename="%E4.bin"', "%E4.bin", id="percent-no-utf-8"),
    pytest.param(
        'attachment; filename="n\u00c3\u00a4me"', "n\u00e4me", id="utf-8-as-latin-1"
    ),
    pytest.param('attachment; filename="n\u00e4me"', "n\u00e4me", id="latin-1"),
    pytest.param('attachment; filename="\u20ac"', "\u20ac", id="decoded-already"),
    pytest.param(
        "attachment; filename*=UTF-8''%e2%82%ac%20x", "\u20ac x", id="extended"
    ),
    pytest.param(
        "attachment; filename*=iso-8859-1'en'%A3", "\u00a3", id="extended-latin-1"
    ),
    pytest.param(
        "attachment; filename=x; filename*=utf-8''y", "y", id="extended-wins-last"
    ),
    pytest.param(
        "attachment; filename*=utf-8''y; filename=x", "y", id="extended-wins-first"
    ),
    pytest.param(
        "attachment; filename=x; filename*=utf-16''y", "x", id="charset-unknown"
    ),
    pytest.param(
        "attachment; filename=x; filename*=utf-8''%E4", "x", id="extended-not-utf-8"
    ),
    pytest.param(
        "attachment; filename=x; filename*=utf-8''%E", "x", id="extended-bad-percent"
    ),
    pytest.param("attachment; filename=x; filename*=y", "x", id="extended-no-charset"),
    pytest.param("attachment; filename=x; filename*=utf-8''", "x", id="extended-empty"),
]

GARBAGE = [
    pytest.param("", id="empty"),
    pytest.param(";", id="semicolon"),
    pytest.param("attachment", id="no-parameters"),
    pytest.param("attachment;", id="empty-parameter"),
    pytest.param("attachment; name=x", id="no-filename"),
    pytest.param('attachment; filename=""', id="empty-filename"),
    pytest.param("attachment; filename=", id="no-value"),
    pytest.param("attachment; filename", id="no-equals"),
    pytest.param("attachment; =x", id="no-name"),
    pytest.param("attachment; filename=a b", id="space-in-token"),
    pytest.param('attachment; filename="x', id="quote-open"),
    pytest.param('attachment; filename="x\\"', id="quote-escaped"),
    pytest.param('attachment; filename="x"y', id="text-after-quote"),
    pytest.param('attachment; filename="x";;', id="two-semicolons"),
    pytest.param('attachment; filename="x"; y', id="broken-later"),
    pytest.param("attachment; filename=x; filename=y", id="twice"),
    pytest.param("attachment; filename=x; FILENAME=y", id="twice-any-case"),
    pytest.param('attachment, x; filename="x"', id="two-values"),
    pytest.param('filename="x"', id="no-type"),
    pytest.param('attachment; filename="a\x00b"', id="nul"),
    pytest.param('attachment; filename="a\r\nb"', id="crlf"),
    pytest.param('attachment; filename="a\\\nb"', id="escaped-newline"),
    pytest.param("attachment; filename=x\n", id="trailing-newline"),
    pytest.param("attachment; filename=\ud800", id="surrogate-token"),
    pytest.param('attachment; filename="\ud800"', id="surrogate-quoted"),
    pytest.param("attachment; filename=" + "x" * 10_000, id="very-long"),
    pytest.param('attachment; filename="' + "\\" * 8000, id="backslashes"),
    pytest.param("attachment" + "; " * 4000, id="semicolons"),
]


@pytest.mark.parametrize(("value", "expected"), DISPOSITIONS)
def test_name_of_a_disposition(value: str, expected: str) -> None:
    assert from_disposition(value) == expected


@pytest.mark.parametrize("value", GARBAGE)
def test_invalid_disposition_has_no_name(value: str) -> None:
    assert from_disposition(value) is None


@given(any_text)
def test_from_disposition_never_raises(text: str) -> None:
    from_disposition(text)
    from_disposition(f'attachment; filename="{text}"')
    from_disposition(f"attachment; filename*=utf-8''{text}")


def test_disposition_has_an_ascii_and_an_extended_form() -> None:
    assert to_disposition('n\u00e4"%.bin') == (
        "attachment; filename=\"n___.bin\"; filename*=UTF-8''n%C3%A4%22%25.bin"
    )


def test_disposition_escapes_every_name() -> None:
    header = to_disposition('x"\r\nSet-Cookie: a=b\x00/../y;"z')
    assert header == "attachment; filename=\"y;_z\"; filename*=UTF-8''y%3B%22z"


@given(any_text)
@example("5%20x!#$&+-.^_`|~'()*")
def test_disposition_round_trip(name: str) -> None:
    header = to_disposition(name)
    assert header.isascii() and header.isprintable()
    assert from_disposition(header) == display_name(name)


@given(st.text("abc %;=._-", min_size=1, max_size=60))
def test_disposition_ascii_form_alone_is_readable(name: str) -> None:
    plain, _, _ = to_disposition(name).partition("; filename*=")
    assert from_disposition(plain) == display_name(name).replace("%", "_")
