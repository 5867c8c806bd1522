"""kill -9 of workers while clients upload: nothing acknowledged is lost, all finish."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.ground import Ground
from tests.faults.invariants import broken_after_repair
from tests.figures import figure, run_seed
from tests.servers.gunicorn import kill_worker, serve
from tests.servers.uploaders import APP, crowd

pytestmark = pytest.mark.slow

KILLS = figure("HTTP_KILLS", 200, 2_000)
TREES = figure("HTTP_TREE_KILLS", 10, 200)


def check_at_rest(tmp_path: Path) -> None:
    """Nobody is at work any more."""
    ground = Ground(tmp_path)
    with ground.open():
        assert broken_after_repair(ground) == []


def test_workers_are_killed_while_clients_upload(disk_path: Path) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    with serve(disk_path, "--preload", app=APP) as server:
        with crowd(server, seed) as clients:
            killed = 0
            while killed < KILLS and clients.is_busy:
                time.sleep(chance.uniform(0.02, 0.2))
                workers = server.workers()
                if workers:
                    killed += kill_worker(chance.choice(workers))
        assert killed == KILLS
        assert clients.interrupted > KILLS // 40
    check_at_rest(disk_path)


def test_the_whole_server_is_killed_while_clients_upload(disk_path: Path) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    with serve(disk_path, "--preload", app=APP) as server, crowd(server, seed):
        for _ in range(TREES):
            time.sleep(chance.uniform(0.3, 1.0))
            server.kill_all()
            server.start_again()
    check_at_rest(disk_path)
