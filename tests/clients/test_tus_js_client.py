"""tus-js-client under Node against a real server, unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.clients.server import Server, serve

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("drive_tus_js.cjs")
CONTENT = os.urandom(5 * 2**20 + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: Workers that are killed while one upload runs.
KILLS = 3


@pytest.fixture(scope="module")
def module_dir() -> str:
    found = os.environ.get("TUS_JS_CLIENT_DIR", "")
    if shutil.which("node") is None or not Path(found).is_dir() or not found:
        pytest.skip("needs node, and tus-js-client's directory in TUS_JS_CLIENT_DIR")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


def command(scenario: str, server: Server, source: Path) -> list[str]:
    return ["node", str(SCRIPT), scenario, server.url, str(source)]


def download(url: str) -> str:
    with urlopen(url + "/file") as response:
        return hashlib.sha256(response.read(2**30)).hexdigest()


@pytest.mark.parametrize(
    "scenario",
    ["buffer", "chunks", "stream", "deferred", "parallel", "override", "withData"],
)
def test_tus_js_client_uploads(
    module_dir: str, server: Server, source: Path, scenario: str
) -> None:
    done = subprocess.run(
        command(scenario, server, source), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["errors"] == 0
    assert download(answer["url"]) == SHA256


def test_tus_js_client_goes_on_after_workers_are_killed(
    module_dir: str, server: Server, source: Path
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
                os.kill(pid, signal.SIGKILL)
            killed += 1
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert killed == KILLS
    assert download(json.loads(output)["url"]) == SHA256
