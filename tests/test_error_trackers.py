"""An error tracker that reads whole bodies (sentry-sdk) changes no byte."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.gunicorn import ROOT

#: Integrations of sentry-sdk patch Flask for good, so it has a process of its own.
PROGRAM = """
import json, sys
from pathlib import Path
from unittest.mock import Mock
import sentry_sdk
from flask import request
from sentry_sdk.transport import Transport

events = []
class Kept(Transport):
    def __init__(self, options=None): self.options = options
    def capture_envelope(self, envelope): events.append(envelope.get_event())

sentry_sdk.init(
    "http://key@localhost/1", transport=Kept, max_request_body_size="always",
    default_integrations=True, auto_enabling_integrations=True,
)
from tests.apps import dispose
from tests.looks import EXCHANGES, Answer, check, looking_app
from tests.test_looking_at_bodies import ViaTestClient

app = looking_app(Path(sys.argv[1]))
moment = sys.argv[2]

def capture(response=None):
    if request.method != "GET":
        sentry_sdk.capture_message("look")
    return response

if moment == "before":
    app.before_request(capture)
else:
    app.after_request(capture)
found = {}
for name in EXCHANGES:
    if name == "chunked PATCH":
        continue
    del events[:]
    status = check(ViaTestClient(app), name, "values", "none").status
    sent = [e.get("request", {}).get("data") for e in events if e]
    found[name] = [status, any(data and data != "" for data in sent)]
dispose(app)
print(json.dumps(found))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("sentry_sdk") is None, reason="sentry-sdk is missing"
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_sentry_reads_bodies_and_uploads_stay_right(
    tmp_path: Path, moment: str
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), moment],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    told: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    assert {status for status, _ in told.values()} <= {200, 201, 204}
    assert told["form POST"][1], "the tracker has seen the form"
    assert told["JSON"][1], "the tracker has seen the JSON"
