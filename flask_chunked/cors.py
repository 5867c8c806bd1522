"""Cross-origin requests (Fetch standard, CORS), for configured origins only."""

from __future__ import annotations

from flask import Request, Response

#: The methods of all dialects.
CORS_ALLOW_METHODS = ("POST", "PUT", "HEAD", "PATCH", "DELETE", "GET", "OPTIONS")
#: The request headers of all dialects that a browser asks for in a preflight.
CORS_ALLOW_HEADERS = (
    "Authorization",
    "Content-Disposition",
    "Content-Range",
    "Content-Type",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-CSRFToken",
    "X-HTTP-Method-Override",
    "X-Request-ID",
    "X-Requested-With",
)
#: The response headers that a page's script may read.
CORS_EXPOSE_HEADERS = (
    "Link",
    "Location",
    "Range",
    "Retry-After",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "WWW-Authenticate",
    "X-Total-Count",
)
#: Seconds for which a browser may cache the answer to a preflight.
MAX_AGE = 86_400


def share(request: Request, response: Response, origins: tuple[str, ...]) -> Response:
    """Let pages of these origins read the response, which may be an error.

    :param origins: exact origins, whose requests may have credentials; or ``("*",)``
        for all origins, without credentials.
    :return: the response; an empty one in place of the refusal of a preflight. That has
        no credentials, so a login that refuses it would keep the page from learning why
        its request is refused (Fetch standard, CORS-preflight fetch).
    """
    if not origins:
        return response
    is_allowed = "*" in origins or request.headers.get("Origin") in origins
    if is_allowed and _is_preflight(request) and not 200 <= response.status_code < 300:
        response.close()
        response = Response(status=204)
    _add_headers(request, response, origins)
    return response


def _is_preflight(request: Request) -> bool:
    asked = "Access-Control-Request-Method" in request.headers
    return asked and request.method == "OPTIONS" and "Origin" in request.headers


def _add_headers(
    request: Request, response: Response, origins: tuple[str, ...]
) -> None:
    # If the application also uses Flask-CORS, this keeps it from adding its headers.
    response._FLASK_CORS_EVALUATED = True  # type: ignore[attr-defined]
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if "*" in origins:
        response.headers["Access-Control-Allow-Origin"] = "*"
    elif origin in origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
    else:
        return
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = ", ".join(CORS_ALLOW_METHODS)
        response.headers["Access-Control-Allow-Headers"] = ", ".join(CORS_ALLOW_HEADERS)
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
    else:
        exposed = ", ".join(CORS_EXPOSE_HEADERS)
        response.headers["Access-Control-Expose-Headers"] = exposed
