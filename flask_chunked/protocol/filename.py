"""Codec of the client's file name: ``Content-Disposition`` and the name to display.

The name is data and never becomes a path: the storage chooses where the bytes are kept.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote_to_bytes

_FALLBACK = "upload"
_MAX_BYTES = 255  # UTF-8 bytes, the limit of common file systems
_MAX_EXTENSION = 32  # UTF-8 bytes with the dot; a longer suffix is no extension
_MAX_HEADER = 8192  # characters
# Characters that are examined at each end of a longer name. The result cannot contain
# more, and normalisation takes more than linear time on long runs of combining marks.
_MAX_EXAMINED = 1024

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# These Arabic, Syriac and Kaithi signs have category Cf but are visible.
_VISIBLE_FORMATS = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    "\U000110bd\U000110cd"
)
_EDGES = "." + "".join(char for char in map(chr, range(0x3001)) if char.isspace())
# Windows reserves these names in upper and lower case, and also with an extension, a
# stream or trailing spaces.
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
_ATTR_CHARS = "!#$&+^`|"  # RFC 5987, attr-char, without those that quote() keeps
_EXT_VALUE = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9\-]*'"
    r"((?:[!#$&+\-.^_`|~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)",
    re.IGNORECASE | re.ASCII,
)
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_FALLBACK = re.compile(r'[^ -~]|["\\%]')


def display_name(raw: str | None) -> str:
    """The name to store and to show for the name that a client gave to its file.

    Keeps the last path component (after ``/`` or ``\\``) in NFC. Removes control, bidi
    and other invisible format characters, and dots and spaces at both ends. Puts ``_``
    before the name of a Windows device. Truncates the name before its extension to 255
    bytes of UTF-8. The function is idempotent.

    :return: a name that is not empty; ``upload`` if nothing is left.
    """
    if raw is None:
        return _FALLBACK
    base = raw[max(raw.rfind("/"), raw.rfind("\\")) + 1 :]
    if len(base) > 2 * _MAX_EXAMINED:
        base = base[:_MAX_EXAMINED] + base[-_MAX_EXAMINED:]
    visible = "".join(char for char in base if _is_visible(char))
    name = unicodedata.normalize("NFC", visible).strip(_EDGES)
    if not name:
        return _FALLBACK
    name = _truncate(name, _MAX_BYTES)
    # Checked after truncation, which may turn "CON      x" into a device.
    if _DEVICE.match(name):
        return "_" + _truncate(name, _MAX_BYTES - 1)
    return name


def from_disposition(value: str) -> str | None:
    """The file name of a ``Content-Disposition`` header (RFC 6266, section 4.3).

    ``filename*`` takes precedence over ``filename``. The latter is percent-decoded if
    every percent sign in it is valid, because blueimp jQuery-File-Upload sends
    ``encodeURI(name)`` there.

    :param value: the header as WSGI passes it (bytes as ISO-8859-1); UTF-8 is decoded.
    :return: the client's name, to be passed to :func:`display_name`; ``None`` if there
        is none or the header is invalid. Never raises.
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

    :param name: any text; the header contains its :func:`display_name`.
    :return: ``attachment; filename="ascii"; filename*=UTF-8''encoded``, ASCII only.
    """
    shown = display_name(name)
    # RFC 6266, appendix D: the plain form has no backslash and no percent sign.
    plain = _NOT_FALLBACK.sub("_", shown)
    encoded = quote(shown, safe=_ATTR_CHARS)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _is_visible(char: str) -> bool:
    if unicodedata.category(char) not in _INVISIBLE:
        return True
    return char in _VISIBLE_FORMATS


def _truncate(name: str, limit: int) -> str:
    """Truncate to ``limit`` bytes of UTF-8, and keep a short extension."""
    if len(name.encode()) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = (dot + extension).encode()
    if not stem or len(suffix) > _MAX_EXTENSION:
        stem, suffix = name, b""
    kept = stem.encode()[: limit - len(suffix)].decode(errors="ignore")
    return kept.rstrip(_EDGES) + suffix.decode()


def _redecode(value: str) -> str | None:
    """Decode UTF-8 from WSGI's ISO-8859-1; ``None`` for lone surrogates."""
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
    """Parameters by lower-case name; empty if any part of the header is invalid."""
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
        # RFC 6266, section 4.1: a repeated parameter makes the header invalid.
        if name.lower() in parameters:
            break
        parameters[name.lower()] = _unquote_pairs(quoted) if token is None else token
    return {}


def _unquote_pairs(quoted: str) -> str:
    # Unescape only these two: old clients do not escape the backslashes of
    # "C:\dir\name".
    return re.sub(r'\\(["\\])', r"\1", quoted)


def _decode_ext_value(value: str) -> str | None:
    """Decode an extended value (RFC 5987, section 3.2).

    :return: ``None`` if the value or its charset is invalid.
    """
    match = _EXT_VALUE.fullmatch(value)
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return None


def _decode_percent(value: str) -> str:
    # encodeURI() leaves no bare "%": a name with one was not encoded.
    if _BARE_PERCENT.search(value):
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return value
