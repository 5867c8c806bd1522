"""The tus codecs: what they read, what they refuse, what they write."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.exceptions import MalformedHeader
from flask_chunked.protocol.tus import (
    CHECKSUM_SIZES,
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    MAX_NUMBER,
    MAX_PARTIALS,
    Checksum,
    Concat,
    Metadata,
    parse_number,
    require_defer_length,
)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


SHA1 = bytes(range(20))

# -- what each codec reads, and writes again -------------------------------------------

METADATA = [
    pytest.param("", {}, "", id="empty"),
    pytest.param("   ", {}, "", id="blanks"),
    pytest.param("is_secret", {"is_secret": b""}, "is_secret", id="key-alone"),
    pytest.param("k ,l", {"k": b"", "l": b""}, "k ,l", id="key-and-a-blank"),
    pytest.param("filename YS5iaW4=", {"filename": b"a.bin"}, None, id="one-pair"),
    pytest.param(
        "filename d29ybGQ=,is_confidential,type YQ==",
        {"filename": b"world", "is_confidential": b"", "type": b"a"},
        None,
        id="three-keys",
    ),
    pytest.param("a YQ== , b Yg==", {"a": b"a", "b": b"b"}, None, id="blanks-around"),
    pytest.param(" a YQ== ", {"a": b"a"}, "a YQ==", id="blanks-outside"),
    pytest.param("a +/+/", {"a": b"\xfb\xff\xbf"}, None, id="standard-alphabet"),
    pytest.param("!#=;: YQ==", {"!#=;:": b"a"}, None, id="any-printable-key"),
    pytest.param("k" * 64, {"k" * 64: b""}, None, id="longest-key"),
    pytest.param("a,A", {"a": b"", "A": b""}, None, id="case-matters"),
    pytest.param(
        ",".join(f"k{n}" for n in range(MAX_METADATA_KEYS)),
        {f"k{n}": b"" for n in range(MAX_METADATA_KEYS)},
        None,
        id="most-keys",
    ),
    pytest.param(
        "abc " + "A" * (MAX_METADATA_BYTES - 4),
        {"abc": bytes((MAX_METADATA_BYTES - 4) // 4 * 3)},
        None,
        id="longest-header",
    ),
]

CHECKSUMS = [
    pytest.param(f"sha1 {encoded(SHA1)}", Checksum("sha1", SHA1), id="sha1"),
    pytest.param(f"md5 {'A' * 22}==", Checksum("md5", bytes(16)), id="md5"),
    pytest.param(f"sha256 {'A' * 43}=", Checksum("sha256", bytes(32)), id="sha256"),
    pytest.param(f"sha512 {'A' * 86}==", Checksum("sha512", bytes(64)), id="sha512"),
    pytest.param("crc32 y/Q5Jg==", Checksum("crc32", b"\xcb\xf49&"), id="crc32"),
]

MOST = " ".join(["/a"] * MAX_PARTIALS)
CONCATS = [
    pytest.param("partial", (), id="partial"),
    pytest.param("final;/files/a", ("/files/a",), id="one"),
    pytest.param("final;/a /b /a", ("/a", "/b", "/a"), id="order-and-repeats"),
    pytest.param("final; /a  /b ", ("/a", "/b"), id="blanks"),
    pytest.param("final;http://h/a b", ("http://h/a", "b"), id="absolute-and-relative"),
    pytest.param("final;/a;x", ("/a;x",), id="semicolon-in-a-url"),
    pytest.param("final;" + MOST, ("/a",) * MAX_PARTIALS, id="most"),
]

NUMBERS = [
    pytest.param("0", 0, id="zero"),
    pytest.param("7", 7, id="one-digit"),
    pytest.param("007", 7, id="leading-zeros"),
    pytest.param(str(MAX_NUMBER), MAX_NUMBER, id="largest"),
    pytest.param("0" * 19, 0, id="nineteen-zeros"),
]

# -- what each codec refuses -----------------------------------------------------------

BAD_METADATA = [
    pytest.param(",", id="comma-alone"),
    pytest.param("a YQ==,", id="trailing-comma"),
    pytest.param(",a YQ==", id="leading-comma"),
    pytest.param("a YQ==,,b YQ==", id="two-commas"),
    pytest.param("a YQ==, ,b YQ==", id="blank-between-commas"),
    pytest.param("a,b,a", id="repeated-key"),
    pytest.param("a YQ==,a YQ==", id="repeated-pair"),
    pytest.param("a  YQ==", id="two-blanks"),
    pytest.param("a YQ== YQ==", id="two-values"),
    pytest.param("a\tYQ==", id="tab"),
    pytest.param("a YQ==,\tb", id="tab-after-a-comma"),
    pytest.param("a YQ", id="no-padding"),
    pytest.param("a YQ=", id="half-the-padding"),
    pytest.param("a YQ===", id="too-much-padding"),
    pytest.param("a YWJj=", id="padding-without-need"),
    pytest.param("a =", id="padding-alone"),
    pytest.param("a ====", id="nothing-but-padding"),
    pytest.param("a YQ==YQ==", id="padding-inside"),
    pytest.param("a A", id="one-character"),
    pytest.param("a -_-_", id="url-safe-alphabet"),
    pytest.param("a YQ==\n", id="trailing-newline"),
    pytest.param("a Y\nQ==", id="newline-inside"),
    pytest.param("a Y\x00Q==", id="nul-inside"),
    pytest.param("a Y\xe4==", id="latin-1-value"),
    pytest.param("a \uff21\uff21\uff21\uff21", id="fullwidth-letters"),
    pytest.param("\xe4 YQ==", id="latin-1-key"),
    pytest.param("a\x7f YQ==", id="delete-in-a-key"),
    pytest.param("a\x00 YQ==", id="nul-in-a-key"),
    pytest.param("k" * 65, id="key-too-long"),
    pytest.param(
        ",".join(f"k{n}" for n in range(MAX_METADATA_KEYS + 1)), id="too-many-keys"
    ),
    pytest.param("a " + "A" * (MAX_METADATA_BYTES - 1), id="too-long"),
    pytest.param(" " * (MAX_METADATA_BYTES + 1), id="too-many-blanks"),
]

BAD_CHECKSUMS = [
    pytest.param("", id="empty"),
    pytest.param("sha1", id="algorithm-alone"),
    pytest.param("sha1 ", id="no-digest"),
    pytest.param(" sha1 " + encoded(SHA1), id="leading-blank"),
    pytest.param("sha1  " + encoded(SHA1), id="two-blanks"),
    pytest.param("sha1\t" + encoded(SHA1), id="tab"),
    pytest.param("sha1 " + encoded(SHA1) + " ", id="trailing-blank"),
    pytest.param("sha1 " + encoded(SHA1) + "\n", id="trailing-newline"),
    pytest.param("SHA1 " + encoded(SHA1), id="upper-case"),
    pytest.param("sha-1 " + encoded(SHA1), id="other-spelling"),
    pytest.param("sha384 " + "A" * 64, id="not-supported"),
    pytest.param("s\xe4 " + encoded(SHA1), id="latin-1-algorithm"),
    pytest.param("a" * 33 + " " + encoded(SHA1), id="algorithm-too-long"),
    pytest.param("sha1 " + SHA1.hex(), id="hexadecimal"),
    pytest.param("sha1 " + encoded(SHA1)[:-1], id="no-padding"),
    pytest.param("sha1 " + encoded(SHA1)[:-1] + "\xe4", id="latin-1-digest"),
    pytest.param("sha1 " + encoded(SHA1[:-1]), id="too-short"),
    pytest.param("sha1 " + encoded(SHA1 + b"a"), id="too-long"),
    pytest.param("md5 " + encoded(SHA1), id="size-of-another"),
    pytest.param("sha1 " + "A" * 100_000, id="very-long"),
    pytest.param(f"sha1 {encoded(SHA1)},sha1 {encoded(SHA1)}", id="two-joined"),
]

BAD_CONCATS = [
    pytest.param("", id="empty"),
    pytest.param("final", id="final-alone"),
    pytest.param("final;", id="no-urls"),
    pytest.param("final;   ", id="blanks"),
    pytest.param("partial;", id="partial-with-urls"),
    pytest.param("partial;/a", id="partial-and-a-url"),
    pytest.param("Partial", id="upper-case"),
    pytest.param("FINAL;/a", id="final-in-upper-case"),
    pytest.param(" partial", id="leading-blank"),
    pytest.param("partial ", id="trailing-blank"),
    pytest.param("final ;/a", id="blank-before-the-semicolon"),
    pytest.param("final /a", id="no-semicolon"),
    pytest.param("finals;/a", id="other-word"),
    pytest.param("final;" + MOST + " /a", id="too-many"),
    pytest.param("final;/a?\xe4", id="latin-1-url"),
    pytest.param("final;/a?\x00", id="nul-in-a-url"),
    pytest.param("final;/a\t/b", id="tab-between-urls"),
    pytest.param("final;/a\n", id="trailing-newline"),
    pytest.param("final;/a\x7f", id="delete-in-a-url"),
]

BAD_NUMBERS = [
    pytest.param("", id="empty"),
    pytest.param("-1", id="negative"),
    pytest.param("+1", id="plus"),
    pytest.param(" 1", id="leading-blank"),
    pytest.param("1 ", id="trailing-blank"),
    pytest.param("1\n", id="trailing-newline"),
    pytest.param("1.0", id="decimal-point"),
    pytest.param("1e3", id="exponent"),
    pytest.param("0x1", id="hexadecimal"),
    pytest.param("1_0", id="underscore"),
    pytest.param("1,1", id="two-joined"),
    pytest.param("\u0661", id="arabic-digit"),
    pytest.param("\xb2", id="superscript"),
    pytest.param(str(MAX_NUMBER + 1), id="above-63-bits"),
    pytest.param("0" * 20, id="twenty-digits"),
    pytest.param("9" * 5000, id="five-thousand-digits"),
    pytest.param("inf", id="word"),
]


@pytest.mark.parametrize(("value", "values", "written"), METADATA)
def test_metadata_is_read_and_echoed(
    value: str, values: dict[str, bytes], written: str | None
) -> None:
    metadata = Metadata.from_header(value)
    assert list(metadata.values.items()) == list(values.items())
    assert metadata.to_header() == (value if written is None else written)
    assert Metadata.from_header(metadata.to_header()) == metadata


@pytest.mark.parametrize("value", BAD_METADATA)
def test_malformed_metadata_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        Metadata.from_header(value)
    assert (caught.value.name, caught.value.value) == ("Upload-Metadata", value)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        pytest.param(("filename", "name"), "a.bin", id="first"),
        pytest.param(("name", "filename"), "b.bin", id="other-order"),
        pytest.param(("nothing", "name"), "b.bin", id="second"),
        pytest.param(("nothing",), None, id="none"),
        pytest.param(("empty", "name"), "", id="empty-counts"),
        pytest.param(("broken",), "\ufffd\ufffd", id="not-utf-8"),
        pytest.param(("umlaut",), "\xe4", id="utf-8"),
        pytest.param((), None, id="no-keys"),
    ],
)
def test_text_is_the_value_of_the_first_existing_key(
    keys: tuple[str, ...], text: str | None
) -> None:
    header = "filename YS5iaW4=,name Yi5iaW4=,empty,broken //8=,umlaut w6Q="
    assert Metadata.from_header(header).text(*keys) == text


@pytest.mark.parametrize(("value", "expected"), CHECKSUMS)
def test_checksum_is_read_and_written(value: str, expected: Checksum) -> None:
    assert Checksum.from_header(value) == expected
    assert expected.to_header() == value


@pytest.mark.parametrize("value", BAD_CHECKSUMS)
def test_malformed_checksum_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        Checksum.from_header(value)
    assert (caught.value.name, caught.value.value) == ("Upload-Checksum", value)
    assert caught.value.reason


@pytest.mark.parametrize(("value", "urls"), CONCATS)
def test_concat_is_read_and_echoed(value: str, urls: tuple[str, ...]) -> None:
    concat = Concat.from_header(value)
    assert concat.urls == urls
    assert concat.is_final is (value != "partial")
    assert concat.to_header() == value


@pytest.mark.parametrize("value", BAD_CONCATS)
def test_malformed_concat_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        Concat.from_header(value)
    assert (caught.value.name, caught.value.value) == ("Upload-Concat", value)
    assert caught.value.reason


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_number_is_read(value: str, expected: int) -> None:
    assert parse_number("Upload-Offset", value) == expected


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_malformed_number_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        parse_number("Upload-Length", value)
    assert (caught.value.name, caught.value.value) == ("Upload-Length", value)
    assert caught.value.reason


def test_deferred_length_is_1() -> None:
    require_defer_length("1")


@pytest.mark.parametrize("value", ["", "0", "2", "01", "1 ", "true", "1,1", "\xb9"])
def test_other_deferred_length_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        require_defer_length(value)
    assert (caught.value.name, caught.value.value) == ("Upload-Defer-Length", value)


# -- round trips -----------------------------------------------------------------------

KEYS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","),
    min_size=1,
    max_size=64,
)
PAIRS = st.dictionaries(KEYS, st.binary(max_size=60), max_size=MAX_METADATA_KEYS)
URLS = st.text(
    string.ascii_letters + string.digits + "/:;?=&%.-,", min_size=1, max_size=40
)


@given(pairs=PAIRS, comma=st.sampled_from([",", ", ", " ,", "  ,  "]))
def test_metadata_round_trip(pairs: dict[str, bytes], comma: str) -> None:
    header = comma.join(
        f"{key} {encoded(value)}" if value else key for key, value in pairs.items()
    )
    metadata = Metadata.from_header(header)
    assert metadata.values == pairs
    assert metadata.to_header() == header


@given(
    st.sampled_from(sorted(CHECKSUM_SIZES)).flatmap(
        lambda name: st.builds(
            Checksum,
            st.just(name),
            st.binary(min_size=CHECKSUM_SIZES[name], max_size=CHECKSUM_SIZES[name]),
        )
    )
)
def test_checksum_round_trip(checksum: Checksum) -> None:
    assert Checksum.from_header(checksum.to_header()) == checksum


@given(st.lists(URLS, min_size=1, max_size=MAX_PARTIALS))
def test_concat_round_trip(urls: list[str]) -> None:
    header = "final;" + " ".join(urls)
    concat = Concat.from_header(header)
    assert concat.urls == tuple(urls)
    assert Concat.from_header(concat.to_header()) == concat


@given(st.integers(0, MAX_NUMBER))
def test_number_round_trip(number: int) -> None:
    assert parse_number("Upload-Offset", str(number)) == number


NEAR_MISSES = st.text(st.sampled_from("aA1=/+ ,;-\n\t\x00\xe4sh"), max_size=80)


@pytest.mark.parametrize(
    "parse",
    [
        Metadata.from_header,
        Checksum.from_header,
        Concat.from_header,
        lambda value: parse_number("Upload-Offset", value),
    ],
    ids=["metadata", "checksum", "concat", "number"],
)
@pytest.mark.parametrize("prefix", ["", "sha1 ", "final;", "a ", "1"])
@given(value=st.text(max_size=80) | NEAR_MISSES)
def test_any_text_is_a_value_or_malformed(
    parse: object, prefix: str, value: str
) -> None:
    assert callable(parse)
    try:
        parsed = parse(prefix + value)
    except MalformedHeader:
        return
    if isinstance(parsed, int):
        assert 0 <= parsed <= MAX_NUMBER
    elif isinstance(parsed, Checksum):
        assert len(parsed.digest) == CHECKSUM_SIZES[parsed.algorithm]
    else:
        assert type(parsed).from_header(parsed.to_header()) == parsed
