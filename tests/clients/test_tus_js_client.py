"""tus-js-client under Node against a real server, unchanged.

Needs Node and the npm package, whose directory ``TUS_JS_CLIENT_DIR`` names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.conftest import Source
from tests.documents import TUS, code, section
from tests.servers.gunicorn import Server, kill_worker

MODULE = os.environ.get("TUS_JS_CLIENT_DIR", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or not (Path(MODULE) / "package.json").is_file(),
        reason="needs node, and tus-js-client's directory in TUS_JS_CLIENT_DIR",
    ),
]

SCRIPT = Path(__file__).with_name("drive_tus_js.cjs")
#: Times that all workers are killed while one upload runs.
KILLS = 3

#: What each scenario of the driver is expected to use.
METHODS = {
    "buffer": {"POST", "PATCH"},
    "chunks": {"POST", "PATCH"},
    "stream": {"POST", "PATCH"},
    "deferred": {"POST", "PATCH"},
    "parallel": {"POST", "PATCH"},
    "override": {"POST"},
    "withData": {"POST"},
}


def command(scenario: str, server: Server, source: Source) -> list[str]:
    return ["node", str(SCRIPT), scenario, server.url, str(source.path)]


def check(url: str, source: Source) -> requests.Response:
    """The file is there, whole; the answer to HEAD."""
    answer = requests.get(url + "/file", timeout=30)
    assert hashlib.sha256(answer.content).hexdigest() == source.sha256
    return requests.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=30)


@pytest.mark.parametrize("scenario", METHODS)
def test_tus_js_client_uploads(server: Server, source: Source, scenario: str) -> None:
    done = subprocess.run(
        command(scenario, server, source), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["errors"] == 0
    assert set(answer["methods"]) == METHODS[scenario]
    head = check(answer["url"], source)
    parts = head.headers.get("Upload-Concat", "").removeprefix("final;").split()
    assert len(parts) == (4 if scenario == "parallel" else 0)


#: Stands before the lines of the page: a browser's ``File``, and no import by name.
PRELUDE = """
import {{ createRequire }} from "node:module";
import {{ readFileSync }} from "node:fs";
const tus = createRequire("{module}/")("./");
const content = readFileSync("{path}");
const file = Object.assign(content, {{ name: "a.bin", type: "application/x-test" }});
"""


def test_lines_of_the_page_upload(
    server: Server, source: Source, tmp_path: Path
) -> None:
    (block,) = code(section(TUS, "tus-js-client"), "javascript")
    script = tmp_path / "page.mjs"
    start = PRELUDE.format(module=Path(MODULE).resolve(), path=source.path)
    line = 'import * as tus from "tus-js-client";\n'
    assert line in block and '"/uploads/"' in block
    lines = block.replace(line, "").replace('"/uploads/"', f'"{server.url}"')
    script.write_text(start + lines)
    done = subprocess.run(
        ["node", str(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    head = check(done.stdout.removeprefix("stored as ").strip(), source)
    assert "filename YS5iaW4=" in head.headers["Upload-Metadata"]


def test_tus_js_client_goes_on_after_workers_are_killed(
    server: Server, source: Source
) -> None:
    process = subprocess.Popen(
        command("retry", server, source),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    killed = 0
    for index, _ in enumerate(process.stderr):
        if index % 5 == 4 and killed < KILLS:
            for pid in server.workers():
                kill_worker(pid)
            killed += 1
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert killed == KILLS
    answer = json.loads(output)
    assert answer["errors"] > 0
    check(answer["url"], source)
