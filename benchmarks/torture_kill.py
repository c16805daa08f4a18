"""Kill ``hescribe`` with SIGKILL at random moments, and compare what the same command gives afterwards.

Run by ``make torture``, not by ``make bench``: it takes minutes and measures no speed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hescribe._support import STALE_S
from hescribe.bench.model_folder import read_model
from hescribe.bench.results import Results
from hescribe.bench.store import MEASUREMENTS
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.testing.cohorts import raw_colour_cohort

N_KILLS = 10
MODELS = "mean,position,color_ridge,shuffled_pairs,depth_oracle,domain_oracle"


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "hescribe.cli", *map(str, words), "--json", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(*words):
    process = start(*words)
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


def kill(after_s, *words):
    """Return whether the command was still running when it was killed."""
    process = start(*words)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def stale(folder):
    return list(folder.rglob(".*.tmp*"))


def comparable(out):
    return Results(out).rows.drop(columns=list(MEASUREMENTS))


def torture_bench(root, rng):
    """Kill ``bench run`` ten times in one folder, each time further on or not, then let it end."""
    words = ("bench", "run", "--cohort", root / "C", "--models", MODELS, "--out")
    finish(*words, root / "warm")
    begin = time.perf_counter()
    n_cells = finish(*words, root / "whole")["n_cells"]
    took = time.perf_counter() - begin
    out, moments, done = root / "killed", [], []
    while len(moments) < N_KILLS:
        if (out / "run.json").exists() and Results(out).n_missing == 0:
            shutil.rmtree(out)
        moment = rng.uniform(0.2 * took, took)
        if kill(moment, *words, out):
            moments.append(moment)
            done.append(len(list((out / "cells").glob("[!.]*"))) if (out / "cells").exists() else 0)
            if (out / "run.json").exists():
                comparable(out)  # every finished cell can be read
    end = finish(*words, out)
    left = stale(out)
    same = comparable(out).equals(comparable(root / "whole"))
    for path in left:
        os.utime(path, (0, time.time() - STALE_S - 1))
    finish(*words, out)
    print(
        f"bench run: {took:.1f} s undisturbed, {n_cells} cells; killed after {', '.join(f'{m:.1f}' for m in moments)} s"
    )
    print(f"  cells finished at each kill: {done}; served from them by the last run: {end['n_cached']}")
    print(f"  rows identical: {same}; half-written files left: {len(left)}, a day later: {len(stale(out))}")
    return same and not stale(out)


def torture_command(name, root, rng, words, check):
    """Kill a command that writes a folder at ten moments, each time on an empty place."""
    finish(*words, "--out", root / f"{name}_warm")
    begin = time.perf_counter()
    finish(*words, "--out", root / f"{name}_timed")
    took, n_there = time.perf_counter() - begin, 0
    for i in range(N_KILLS):
        out = root / f"{name}_{i}"
        while not kill(rng.uniform(0.5 * took, took), *words, "--out", out):
            shutil.rmtree(out)  # it was faster than the kill
        n_there += out.exists()
        if not out.exists():
            finish(*words, "--out", out)
        check(out)
    print(f"{name}: {took:.1f} s undisturbed; killed {N_KILLS} times, {n_there} times after it had written")
    print("  whole or absent each time, whole after the same command; temporary folders left:", len(stale(root)))


def check_model(path):
    assert read_model(path).info.score is not None


def main():
    rng = random.Random(0)  # noqa: S311 - moments, no secret
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["HESCRIBE_CACHE"] = str(root / "cache")
        write_cohort(raw_colour_cohort(4, 1), root / "C")
        good = torture_bench(root, rng)
        torture_command("fit", root, rng, ("fit", "color_ridge", root / "C", "--set", "alpha=100"), check_model)
        source = root / "source"
        shutil.copytree(root / "C/sections", source)
        for image in (root / "C/images").iterdir():
            shutil.copy(image, source)
        words = ("data", "import", source, "--reader", "h5ad", "--mpp", "4", "--copy-images")
        torture_command(
            "import", root, rng, words, lambda path: len(read_cohort(path)) == 4 or sys.exit("sections lost")
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
