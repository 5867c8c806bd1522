"""The URLs of a registered blueprint, and the dispatcher that serves all of them.

Four rules with explicit methods, so that everything that walks ``app.url_map`` can read
them. The last one takes every other path below the prefix: no redirect, no HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Flask, Request, Response, has_request_context
from flask import request as flask_request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter, UnicodeConverter

from .dialects.base import Dialect
from .error_answers import answer_error, answer_failure
from .exceptions import ConfigurationError
from .protocol.upload_id import parse_upload_id
from .registration import Registration
from .request.context import Target, UploadRequest

#: The methods of every rule.
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
#: Methods that a POST may stand for in every dialect (``X-HTTP-Method-Override``).
OVERRIDABLE = frozenset({"PUT", "PATCH", "DELETE"})

#: The variable that stands for the host, in an app with ``host_matching``.
_ANY_HOST = "chunked_upload_host"

#: Answers a request: what its path names, the id in it, the prefix's variables and id.
Answer = Callable[[Target, str, Mapping[str, object]], Response]


class Methods(set[str]):
    """The methods of a rule; the rule matches all others as well.

    So a request with any other method gets our 405, not the application's HTML.
    """

    def __contains__(self, method: object) -> bool:
        # Werkzeug looks for the method "--" to learn which ones a path has.
        return isinstance(method, str) and method[:1].isalpha()


class UploadIdConverter(UnicodeConverter):
    """Matches one segment, which is parsed later: malformed ids get our 404."""

    # After the application's own variables, but before every other path.
    weight = 9_000


class RestConverter(BaseConverter):
    """Matches every path below the prefix, with slashes."""

    # (?s:) matches line feeds, too: otherwise the application's HTML would answer paths
    # that contain them. Not the empty path: if the prefix has a variable with slashes,
    # Werkzeug tries this rule before the collection's.
    regex = "(?s:.+)"
    part_isolating = False
    # After every other rule, so that the application's own URLs come first.
    weight = 10_000


class SetupState(BlueprintSetupState):
    """Adds a blueprint's rules to an app, with a host if the app matches hosts."""

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Any = None,
        **options: Any,
    ) -> None:
        """Add a rule; without ``host=`` it gets the blueprint's host."""
        if endpoint == "static" and not (self.url_prefix or "").strip("/"):
            # Otherwise the application's own static folder would answer.
            rule = f"/{self.name}{rule}"
        if self.app.url_map.host_matching:
            given = self.options.get("host")
            options.setdefault("host", f"<{_ANY_HOST}>" if given is None else given)
        super().add_url_rule(rule, endpoint, view_func, **options)


def add_rules(state: BlueprintSetupState, app: Flask, name: str, act: Answer) -> None:
    """Add the rules of a blueprint.

    :param name: the full endpoint prefix.
    :raises ConfigurationError: a host is given, but the app does not match hosts.
    """
    converters = app.url_map.converters
    converters.setdefault("chunked_upload_id", UploadIdConverter)
    converters.setdefault("chunked_upload_rest", RestConverter)
    _require_host_matching(state, app, name)

    def collection(**view_args: object) -> Response:
        return act(Target.COLLECTION, "", view_args)

    def upload(upload_id: str, **view_args: object) -> Response:
        return act(Target.UPLOAD, upload_id, view_args)

    def file(upload_id: str, **view_args: object) -> Response:
        return act(Target.FILE, upload_id, view_args)

    def other(rest: str, **view_args: object) -> Response:
        return act(Target.UNKNOWN, "", view_args)

    for path, endpoint, view in (
        ("/", "collection", collection),
        ("/<chunked_upload_id:upload_id>", "upload", upload),
        ("/<chunked_upload_id:upload_id>/file", "file", file),
        ("/<chunked_upload_rest:rest>", "dispatch", other),
    ):
        state.add_url_rule(
            path,
            endpoint,
            view,
            methods=METHODS,
            provide_automatic_options=False,
            strict_slashes=False,
            merge_slashes=False,
        )
        for rule in app.url_map.iter_rules(f"{name}.{endpoint}"):
            rule.methods = Methods(METHODS)


def _require_host_matching(state: BlueprintSetupState, app: Flask, name: str) -> None:
    """Check the option ``host``; without it, serve the blueprint on every host."""
    is_given = state.options.get("host") is not None
    if not app.url_map.host_matching:
        if is_given:
            raise ConfigurationError(
                f"Blueprint {name!r} is registered with host=, but the app does not "
                "match hosts; create it with Flask(..., host_matching=True)"
            )
        return
    if is_given:
        return

    def forget_host(endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values and endpoint and endpoint.startswith(f"{name}."):
            values.pop(_ANY_HOST, None)

    def add_host(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint.startswith(f"{name}."):
            here = has_request_context()
            host = flask_request.host if here else app.config["SERVER_NAME"]
            if app.url_map.is_endpoint_expecting(endpoint, _ANY_HOST):
                values.setdefault(_ANY_HOST, host)

    app.url_value_preprocessor(forget_host)
    app.url_defaults(add_host)


def dispatch(
    registration: Registration,
    dialects: Sequence[Dialect],
    path: tuple[Target, str],
    view_args: Mapping[str, object],
) -> Response:
    """Answer one request with the dialect that matches it.

    :param dialects: in the order in which they are asked.
    :param path: what the URL names, and the id in it as text.
    :param view_args: the variables of the prefix.
    """
    request = _upload_request(registration, dialects, path, view_args)
    dialect = _dialect_of(request, dialects)
    request.dialect = dialect.name
    try:
        response = _answer(request, dialect)
        request.drain()
    finally:
        request.stream.end()
    request.close_connection_after(response)
    return response


def _answer(request: UploadRequest, dialect: Dialect) -> Response:
    try:
        response = dialect.handle(request)
    # Flask would ask handlers that the application has for other clients.
    except Exception as error:
        response = answer_error(request, dialect, error)
    if request.method == "HEAD" and request.http.method != "HEAD":
        _remove_content(response)
    return response


def failure_response(
    registration: Registration, dialects: Sequence[Dialect]
) -> Response:
    """The answer to an unexpected error outside of :func:`dispatch`."""
    request = _upload_request(registration, dialects, (Target.COLLECTION, ""), {})
    return answer_failure(request, _dialect_of(request, dialects))


def _upload_request(
    registration: Registration,
    dialects: Sequence[Dialect],
    path: tuple[Target, str],
    view_args: Mapping[str, object],
) -> UploadRequest:
    target, upload_id = path
    # Flask's proxy would look up the request at each use.
    http: Request = flask_request._get_current_object()  # type: ignore[attr-defined]
    if target is Target.COLLECTION and http.path.endswith("//"):
        # Werkzeug takes one slash more where slashes are not strict.
        target = Target.UNKNOWN
    named = (target, parse_upload_id(upload_id))
    return UploadRequest(registration, http, _method(http), named, view_args, dialects)


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
