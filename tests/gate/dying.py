"""Driver: a process that is killed while it verifies an upload.

``python -m tests.gate.dying DIRECTORY DATABASE-URL UPLOAD-URL OFFSET BYTES`` appends
the last bytes, and ends with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import make_app
from tests.dialects.tus import Tus


class Dying(ChunkedUploadBlueprint):
    """Does not survive its ``verify``."""

    def verify(self, upload: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the driver."""
    directory, database, url, offset, data = sys.argv[1:]
    app = make_app(
        Path(directory), blueprint_class=Dying, SQLALCHEMY_DATABASE_URI=database
    )
    answer = Tus(app.test_client()).patch(url, offset, data.encode())
    sys.exit(f"it lives on: {answer.status}")


if __name__ == "__main__":
    main()
