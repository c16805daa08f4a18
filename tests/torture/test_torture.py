"""A few kills and every fault of three commands, in two minutes; ``make torture`` has two hundred kills over all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_what_is_killed_starved_or_misled_ends_as_undisturbed():
    words = ["-m", "benchmarks.torture", "--kills", "9", "--only", "data import,embed,data fetch"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("all ended as undisturbed")
