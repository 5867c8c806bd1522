"""Codec of the client's file name: ``Content-Disposition`` and the name to display.

The name is data and never becomes a path; where bytes live is the storage's affair.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote_to_bytes

_FALLBACK = "upload"
_MAX_BYTES = 255  # UTF-8 bytes, the limit of common file systems
_MAX_EXTENSION = 32  # UTF-8 bytes, the dot included; a longer one is no extension
_MAX_HEADER = 8192  # characters
# What is looked at of a longer name: normalisation is not linear on long runs of
# combining marks, and no more than this can be part of the result.
_LOOK_AT = 1024

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Arabic, Syriac and Kaithi signs are category Cf but visible.
_VISIBLE_FORMATS = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    "\U000110bd\U000110cd"
)
_EDGES = "." + "".join(char for char in map(chr, range(0x3001)) if char.isspace())
# Windows reserves them in any case, with any extension, stream or trailing space.
_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]|CONIN\$|CONOUT\$)"
    r" *(?:[.:]|\Z)",
    re.IGNORECASE,
)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 -- RFC 9110, section 5.6.2
_OWS = r"[ \t]*"
_TYPE = re.compile(_OWS + _TOKEN + _OWS)
_PARAMETER = re.compile(
    rf";{_OWS}({_TOKEN}){_OWS}={_OWS}"
    rf"(?:({_TOKEN})"
    r'|"([^"\\\x00-\x08\x0a-\x1f\x7f]*(?:\\[^\x00-\x08\x0a-\x1f\x7f]'
    r'[^"\\\x00-\x08\x0a-\x1f\x7f]*)*)")'
    rf"{_OWS}"
)
_END = re.compile(rf"(?:;{_OWS})?\Z")
_ATTR_CHARS = "!#$&+^`|"  # RFC 5987, attr-char, beside those that quote() keeps
_EXT_VALUE = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9\-]*'"
    r"((?:[!#$&+\-.^_`|~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)",
    re.IGNORECASE | re.ASCII,
)
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_FALLBACK = re.compile(r'[^ -~]|["\\%]')


def display_name(raw: str | None) -> str:
    """The name that is stored and shown for what a client called its file.

    The last path component (``/`` and ``\\``), without control, bidi and other
    invisible format characters, NFC, without dots and spaces around it, no Windows
    device (those get ``_`` in front), at most 255 bytes of UTF-8, cut before the
    extension. Applied to its own result it changes nothing.

    :return: never empty: ``upload`` where nothing is left.
    """
    if raw is None:
        return _FALLBACK
    base = raw[max(raw.rfind("/"), raw.rfind("\\")) + 1 :]
    if len(base) > 2 * _LOOK_AT:
        base = base[:_LOOK_AT] + base[-_LOOK_AT:]
    visible = "".join(char for char in base if _is_visible(char))
    name = unicodedata.normalize("NFC", visible).strip(_EDGES)
    if not name:
        return _FALLBACK
    name = _cut(name, _MAX_BYTES)
    # Asked after the cut, which may turn "CON      x" into a device.
    if _DEVICE.match(name):
        return "_" + _cut(name, _MAX_BYTES - 1)
    return name


def from_disposition(value: str) -> str | None:
    """The file name of a ``Content-Disposition`` header (RFC 6266, section 4.3).

    ``filename*`` wins over ``filename``. The latter is percent-decoded where all of
    it is valid, as blueimp jQuery-File-Upload sends ``encodeURI(name)`` there.

    :param value: as WSGI gives it (bytes as ISO-8859-1); UTF-8 in it is decoded.
    :return: the name as the client gave it, to be passed to :func:`display_name`;
        ``None`` if there is none or the header is not valid. Never raises.
    """
    if len(value) > _MAX_HEADER:
        return None
    text = _redecode(value)
    if text is None:
        return None
    parameters = _parse_parameters(text)
    extended = _decode_ext_value(parameters.get("filename*", ""))
    return extended or _decode_percent(parameters.get("filename", "")) or None


def to_disposition(name: str) -> str:
    """The header of an attachment (RFC 6266, section 5; RFC 5987, section 3.2).

    :param name: any text; what is sent is its :func:`display_name`.
    :return: ``attachment; filename="ascii"; filename*=UTF-8''encoded``, ASCII only.
    """
    shown = display_name(name)
    # RFC 6266, appendix D: no backslash and no percent sign in the plain form.
    plain = _NOT_FALLBACK.sub("_", shown)
    encoded = quote(shown, safe=_ATTR_CHARS)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _is_visible(char: str) -> bool:
    if unicodedata.category(char) not in _INVISIBLE:
        return True
    return char in _VISIBLE_FORMATS


def _cut(name: str, limit: int) -> str:
    """``name`` in at most ``limit`` bytes of UTF-8, keeping a short extension."""
    if len(name.encode()) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = (dot + extension).encode()
    if not stem or len(suffix) > _MAX_EXTENSION:
        stem, suffix = name, b""
    kept = stem.encode()[: limit - len(suffix)].decode(errors="ignore")
    return kept.rstrip(_EDGES) + suffix.decode()


def _redecode(value: str) -> str | None:
    """UTF-8 out of WSGI's ISO-8859-1; ``None`` for lone surrogates."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
    except UnicodeEncodeError:
        pass
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _parse_parameters(text: str) -> dict[str, str]:
    """Parameters by lower-case name; none if the header is invalid as a whole."""
    match = _TYPE.match(text)
    parameters: dict[str, str] = {}
    while match is not None:
        position = match.end()
        if _END.match(text, position):
            return parameters
        match = _PARAMETER.match(text, position)
        if match is None:
            break
        name, token, quoted = match.groups()
        # RFC 6266, section 4.1: a parameter that comes twice makes it invalid.
        if name.lower() in parameters:
            break
        parameters[name.lower()] = _unquote_pairs(quoted) if token is None else token
    return {}


def _unquote_pairs(quoted: str) -> str:
    # Only these two: old clients send "C:\dir\name" with its backslashes bare.
    return re.sub(r'\\(["\\])', r"\1", quoted)


def _decode_ext_value(value: str) -> str | None:
    """RFC 5987, section 3.2; ``None`` if it is not one in a charset that we know."""
    match = _EXT_VALUE.fullmatch(value)
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return None


def _decode_percent(value: str) -> str:
    # encodeURI() leaves no bare "%": a name that has one was never encoded.
    if _BARE_PERCENT.search(value):
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return value
