"""The URLs of a registered blueprint, and the dispatcher that serves all of them.

One catch-all rule takes every method: no redirect, no HTML, no automatic OPTIONS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flask import Request, Response
from flask import request as flask_request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from .cors import add_cors_headers
from .dialects.base import Dialect
from .exceptions import ChunkedUploadError, UnsupportedEncoding
from .protocol.upload_id import parse_upload_id
from .registration import Registration
from .request.context import Target, UploadRequest

#: Methods that a POST may stand for in every dialect (``X-HTTP-Method-Override``).
OVERRIDABLE = frozenset({"PUT", "PATCH", "DELETE"})


class RestConverter(BaseConverter):
    """Matches every path below the prefix, with slashes, and the empty path."""

    # (?s:) matches line feeds, too: otherwise the application's HTML would answer paths
    # that contain them.
    regex = "(?s:.*)"
    part_isolating = False
    # After every other rule, so that the application's own URLs come first.
    weight = 10_000


def add_rules(
    state: BlueprintSetupState, name: str, view: Callable[..., Response]
) -> None:
    """Add the catch-all rule, and rules that only build URLs."""
    app = state.app
    app.url_map.converters.setdefault("chunked_upload_rest", RestConverter)
    prefix = (state.url_prefix or "").rstrip("/")
    if prefix and not prefix.startswith("/"):
        prefix = "/" + prefix
    served = [prefix or "/", f"{prefix}/<chunked_upload_rest:rest>"]
    built = {
        "collection": f"{prefix}/",
        "upload": f"{prefix}/<upload_id>",
        "file": f"{prefix}/<upload_id>/file",
    }
    defaults = dict(state.url_defaults) or None
    for path in served:
        rule = app.url_rule_class(
            path,
            endpoint=f"{name}.dispatch",
            methods=None,
            strict_slashes=False,
            merge_slashes=False,
            subdomain=state.subdomain,
            defaults=defaults,
        )
        rule.provide_automatic_options = False  # type: ignore[attr-defined]
        app.url_map.add(rule)
    for endpoint, path in built.items():
        app.url_map.add(
            app.url_rule_class(
                path,
                endpoint=f"{name}.{endpoint}",
                build_only=True,
                subdomain=state.subdomain,
                defaults=defaults,
            )
        )
    app.view_functions[f"{name}.dispatch"] = view


def dispatch(
    registration: Registration,
    dialects: Sequence[Dialect],
    rest: str,
    view_args: Mapping[str, object],
) -> Response:
    """Answer one request with the dialect that matches it.

    :param dialects: in the order in which they are asked.
    :param rest: the path below the prefix.
    """
    request = _upload_request(registration, dialects, rest, view_args)
    dialect = _dialect_of(request, dialects)
    request.dialect = dialect.name
    try:
        response = _answer(request, dialect)
        request.drain()
    finally:
        request.stream.end()
    add_cors_headers(request.http, response, registration.settings.cors_origins)
    request.close_connection_after(response)
    return response


def _answer(request: UploadRequest, dialect: Dialect) -> Response:
    try:
        response = dialect.handle(request)
    except ChunkedUploadError as error:
        response = dialect.render_error(request, error)
        if isinstance(error, UnsupportedEncoding):
            # RFC 9110, section 15.5.16.
            response.headers["Accept-Encoding"] = "identity"
    if request.method == "HEAD" and request.http.method != "HEAD":
        _remove_content(response)
    return response


def answer_failure(registration: Registration, dialects: Sequence[Dialect]) -> Response:
    """The answer to an unexpected error, in the client's dialect.

    The application's log has its cause; the client does not see it.
    """
    request = _upload_request(registration, dialects, "", {})
    error = ChunkedUploadError("Internal Server Error", status=500)
    response = _dialect_of(request, dialects).render_error(request, error)
    add_cors_headers(request.http, response, registration.settings.cors_origins)
    return response


def _upload_request(
    registration: Registration,
    dialects: Sequence[Dialect],
    rest: str,
    view_args: Mapping[str, object],
) -> UploadRequest:
    target, upload_id_text = _target(rest)
    # Flask's proxy would look up the request at each use.
    http: Request = flask_request._get_current_object()  # type: ignore[attr-defined]
    path = (target, parse_upload_id(upload_id_text))
    return UploadRequest(registration, http, _method(http), path, view_args, dialects)


def _method(http: Request) -> str:
    override = http.environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").strip().upper()
    if http.method != "POST" or not override:
        # Never override a GET: the application and proxies check the real method.
        return http.method
    if override in OVERRIDABLE or "Tus-Resumable" in http.headers:
        # tus 1.0.0, Core: the override is the method; unknown ones are refused later.
        return str(override)
    return http.method


def _remove_content(response: Response) -> None:
    """Remove the body from the answer to a POST that stands for HEAD.

    Its client reads as many bytes as ``Content-Length`` says (RFC 9112, section 6.3).
    """
    response.close()
    response.set_data(b"")


def _dialect_of(request: UploadRequest, dialects: Sequence[Dialect]) -> Dialect:
    for dialect in dialects:
        if dialect.matches(request):
            return dialect
    raise RuntimeError("no dialect matches; the last one must take every request")


def _target(rest: str) -> tuple[Target, str]:
    if not rest:
        return Target.COLLECTION, ""
    parts = rest.removesuffix("/").split("/")
    if len(parts) == 1 and parts[0]:
        return Target.UPLOAD, parts[0]
    if len(parts) == 2 and parts[1] == "file":
        return Target.FILE, parts[0]
    return Target.UNKNOWN, ""
