"""her2st from its raw files to the report: seconds and peak memory, cold and with cached features.

Needs the real data beside the checkout (../shared/data), or its folder as the argument.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = {"cold": 90.0, "warm": 20.0, "peak": 3000.0}


def run(*arguments, cache):
    """Run the command line and return its seconds."""
    start = time.perf_counter()
    environment = {**os.environ, "HESCRIBE_CACHE": str(cache)}
    command = [sys.executable, "-m", "hescribe.cli", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    """Print the table."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "her2st"
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    if not source.is_dir():
        print(f"skipped: {source} is not there")
        return
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        imported = run("data", "import", source, "--reader", "st", "--out", folder / "C", cache=cache)
        embedded = run("embed", folder / "C", "--encoder", "efficientnet_lite0", cache=cache)
        scored = run("bench", "run", "--cohort", folder / "C", "--out", folder / "cold", cache=cache)
        reported = run("bench", "report", folder / "cold", cache=cache)
        again = run("bench", "run", "--cohort", folder / "C", "--out", folder / "warm", cache=cache)
        again_reported = run("bench", "report", folder / "warm", cache=cache)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    cold, warm = imported + embedded + scored + reported, again + again_reported
    print(f"import {imported:.1f} s, embed {embedded:.1f} s, ladder {scored:.1f} s, report {reported:.1f} s")
    print(f"with cached features: ladder {again:.1f} s, report {again_reported:.1f} s")
    for label, value, unit in (("cold", cold, "s"), ("warm", warm, "s"), ("peak", peak, "MB")):
        verdict = "met" if value < TARGETS[label] else "MISSED"
        print(f"{label:5s} {value:7.1f} {unit:2s}  target {TARGETS[label]:.0f}  {verdict}")


if __name__ == "__main__":
    main()
