"""drf-chunked-upload under Django, as its README says: the WSGI application.

``gunicorn benchmarks.original:application``; ``python -m benchmarks.original`` makes
the tables. Imports nothing of this package.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

#: The original's URL patterns; Django looks for them here.
urlpatterns: list[Any] = []


class Somebody:
    """Everybody is the first user; no look into the database is needed for that."""

    def authenticate(self, request: object) -> tuple[Any, None]:
        auth = importlib.import_module("django.contrib.auth.models")
        return auth.User(pk=1, username="somebody"), None

    def authenticate_header(self, request: object) -> str:
        return "Nobody"


def create_application() -> Any:
    """Its defaults on SQLite; sessions, users and middleware that it can do without."""
    directory = os.environ["BENCH_DIRECTORY"]
    settings = importlib.import_module("django.conf").settings
    settings.configure(
        SECRET_KEY="benchmarks",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        ROOT_URLCONF=__name__,
        MEDIA_ROOT=f"{directory}/media",
        MEDIA_URL="/media/",
        # On the file system of the target, as with all the others.
        FILE_UPLOAD_TEMP_DIR=directory,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "drf_chunked_upload",
        ],
        MIDDLEWARE=[],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{directory}/original.db",
            }
        },
        REST_FRAMEWORK={
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "DEFAULT_AUTHENTICATION_CLASSES": [],
        },
        DRF_CHUNKED_UPLOAD_ABSTRACT_MODEL=False,
    )
    importlib.import_module("django").setup()
    path = importlib.import_module("django.urls").path
    theirs = importlib.import_module("drf_chunked_upload.views").ChunkedUploadView
    view: Any = type("View", (theirs,), {"authentication_classes": [Somebody]})
    urlpatterns.append(path("uploads/", view.as_view()))
    detail = path("uploads/<pk>/", view.as_view(), name="chunkedupload-detail")
    urlpatterns.append(detail)
    return importlib.import_module("django.core.wsgi").get_wsgi_application()


application = create_application()

if __name__ == "__main__":
    importlib.import_module("django.core.management").call_command(
        "migrate", verbosity=0, run_syncdb=True
    )
    importlib.import_module("django.contrib.auth.models").User.objects.create(pk=1)
