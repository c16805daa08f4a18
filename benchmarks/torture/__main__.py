"""Break what machines break while every command runs, and say whether it ends as it would have: ``make torture``."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.torture.commands import commands, predict, write_inputs
from benchmarks.torture.faults import Breaker
from benchmarks.torture.forked import run
from benchmarks.torture.hosts import fetch_from
from benchmarks.torture.kills import Subject, torture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=204, help="over all commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of commands, separated by commas")
    parser.add_argument("--no-faults", action="store_true", help="kills alone")
    asked = parser.parse_args()
    own_mounts()
    import_everything()
    begin, good = time.perf_counter(), True
    with tempfile.TemporaryDirectory() as folder, fetch_from(Path(folder)) as fetch:
        root = Path(folder)
        os.environ["HESCRIBE_CACHE"] = str(root / "cache")
        log = root / "log.txt"
        for job in (lambda: write_inputs(root), predict(root)):
            done = run(job, log)
            if done.code:
                sys.exit(done.said)
        breaker = Breaker()
        chosen = [c for c in commands(root, fetch) if not asked.only or c.name in asked.only.split(",")]
        for command in chosen:
            place = root / "at" / command.name.replace(" ", "_")
            place.mkdir(parents=True)
            rng = random.Random(f"{asked.seed} {command.name}")  # noqa: S311 - moments, no secret
            subject = Subject(command, place)
            line, ok = torture(subject, -(-asked.kills // len(chosen)), rng)
            print(line, flush=True)
            good = (asked.no_faults or breaker.strike(subject)) and ok and good
        if not asked.no_faults:
            breaker.print_summary()
    print(f"{'all ended as undisturbed' if good else 'NOT as undisturbed'}, in {time.perf_counter() - begin:.0f} s")
    sys.exit(not good)


def own_mounts() -> None:
    """Start again where what we mount is seen by nobody else and vanishes with us, if this machine allows it."""
    words = [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount"]
    if "HESCRIBE_TORTURE_MOUNTS" in os.environ or not words[0]:
        return
    if not subprocess.run([*words, "true"], check=False).returncode:
        os.environ["HESCRIBE_TORTURE_MOUNTS"] = "1"
        again = [*words, sys.executable, "-m", "benchmarks.torture", *sys.argv[1:]]
        os.execv(words[0], again)  # noqa: S606 - no shell is wanted


def import_everything() -> None:
    """Import what the commands use, so that a kill hits their work."""
    import importlib

    for name in ("torch", "anndata", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "sklearn.linear_model"):
        importlib.import_module(name)
    for name in ("cli.app", "bench.runner", "bench.fitting", "bench.completion.cells", "bench.hescape.suite",
                 "bench.slides.cells", "bench.spared_suite", "report.page", "report.quality", "report.analysis",
                 "report.model_card", "view.page", "data.importing", "data.convert", "data.fetch", "encode.features",
                 "testing.cohorts"):  # fmt: skip
        importlib.import_module(f"hescribe.{name}")


if __name__ == "__main__":
    main()
