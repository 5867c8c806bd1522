"""Runs a script at drf-chunked-upload under Django, in a process of its own.

``python -m tests.oracle.original DIRECTORY``: steps as JSON on standard input, answers
as JSON on standard output. Imports nothing of this package.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import sys
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

#: The original's URL patterns; Django looks for them here.
urlpatterns: list[Any] = []


def configure(directory: str) -> None:
    """Set Django up with the original's own defaults, on SQLite."""
    importlib.import_module("django.conf").settings.configure(
        SECRET_KEY="test",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        TIME_ZONE="UTC",
        ROOT_URLCONF=__name__,
        MEDIA_ROOT=f"{directory}/media",
        MEDIA_URL="/media/",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "drf_chunked_upload",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{directory}/original.db",
            }
        },
        REST_FRAMEWORK={
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]
        },
        DRF_CHUNKED_UPLOAD_ABSTRACT_MODEL=False,
    )
    importlib.import_module("django").setup()
    management = importlib.import_module("django.core.management")
    management.call_command("migrate", verbosity=0, run_syncdb=True)


def route() -> None:
    """The view three times: as it is, with a limit, without checksums."""
    path = importlib.import_module("django.urls").path
    view = importlib.import_module("drf_chunked_upload.views").ChunkedUploadView
    views = {
        "uploads": (view, "chunkedupload-detail"),
        "small": (type("Small", (view,), {"max_bytes": 9}), "small"),
        "unchecked": (type("Unchecked", (view,), {"do_checksum_check": False}), "no"),
    }
    for prefix, (one, name) in views.items():
        urlpatterns.append(path(f"{prefix}/", one.as_view()))
        urlpatterns.append(path(f"{prefix}/<pk>/", one.as_view(), name=name))


def pass_days(days: int) -> None:
    """Let every upload be so much older."""
    if not days:
        return
    models = importlib.import_module("drf_chunked_upload.models")
    f = importlib.import_module("django.db.models").F
    moved = f("created_at") - timedelta(days=days)
    models.ChunkedUpload.objects.update(created_at=moved)


def client_of(user: str | None) -> Any:
    """A test client, logged in."""
    client = importlib.import_module("django.test").Client(
        raise_request_exception=False
    )
    if user is not None:
        auth = importlib.import_module("django.contrib.auth.models")
        client.force_login(auth.User.objects.get_or_create(username=user)[0])
    return client


def answer(step: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """Send one request."""
    pass_days(step["days"])
    response = client_of(step["user"]).generic(
        step["method"],
        step["path"].format(**ids),
        base64.b64decode(step["body"]),
        content_type=step["content_type"],
        headers=step["headers"],
    )
    is_json = response.headers.get("Content-Type", "") == "application/json"
    body = json.loads(response.content) if is_json and response.content else None
    return {"status": response.status_code, "json": body}


def main() -> None:
    """Run the script."""
    # The original's warnings and tracebacks are not ours to mend.
    warnings.simplefilter("ignore")
    logging.disable()
    configure(sys.argv[1])
    route()
    ids: dict[str, str] = {}
    answers = []
    for step in json.load(sys.stdin):
        told = answer(step, ids)
        answers.append(told)
        if isinstance(told["json"], dict) and "id" in told["json"]:
            ids[step["name"]] = told["json"]["id"]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
