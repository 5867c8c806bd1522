"""Cross-origin requests (Fetch standard, CORS), for configured origins only."""

from __future__ import annotations

from flask import Flask, Request, Response, request

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


def share_answers(app: Flask, blueprint: str, origins: tuple[str, ...]) -> None:
    """Let pages of these origins read all answers below a blueprint.

    Some of them never reach our dispatcher: those of ``before_request`` functions, and
    the browser client's module.

    :param blueprint: the name under which it is registered.
    :param origins: exact origins, whose requests may have credentials; or ``("*",)``
        for all origins, without credentials.
    """

    def share_answer(response: Response) -> Response:
        http: Request = request._get_current_object()  # type: ignore[attr-defined]
        return share(http, response, origins)

    if origins:
        # Flask calls the first function last: with the response that others made.
        app.after_request_funcs.setdefault(blueprint, []).insert(0, share_answer)


def share(http: Request, response: Response, origins: tuple[str, ...]) -> Response:
    """Let pages of these origins read the response, which may be an error.

    :return: the response; an empty one in place of the refusal of a preflight. That has
        no credentials, so a login that refuses it would keep the page from learning why
        its request is refused (Fetch standard, CORS-preflight fetch).
    """
    # If the application also uses Flask-CORS, this keeps it from adding its headers.
    response._FLASK_CORS_EVALUATED = True  # type: ignore[attr-defined]
    response.vary.add("Origin")
    origin = http.headers.get("Origin")
    if origin is None or not ("*" in origins or origin in origins):
        return response
    is_preflight = (
        http.method == "OPTIONS" and "Access-Control-Request-Method" in http.headers
    )
    if is_preflight and not 200 <= response.status_code < 300:
        response.close()
        return share(http, Response(status=204), origins)
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    if "*" not in origins:
        headers["Access-Control-Allow-Credentials"] = "true"
    if http.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = ", ".join(CORS_ALLOW_METHODS)
        headers["Access-Control-Allow-Headers"] = ", ".join(CORS_ALLOW_HEADERS)
        headers["Access-Control-Max-Age"] = str(MAX_AGE)
    else:
        headers["Access-Control-Expose-Headers"] = ", ".join(CORS_EXPOSE_HEADERS)
    return response
