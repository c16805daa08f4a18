"""Seconds to import hescribe and to start the command line, beside numpy alone."""

import subprocess
import sys
import time

REPEATS = 5


def best_s(*command):
    """Return the shortest wall time of a command."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Print the table."""
    python = best_s("-c", "pass")
    numpy = best_s("-c", "import numpy") - python
    hescribe = best_s("-c", "import hescribe") - python
    helped = best_s("-m", "hescribe.cli", "--help") - python
    print("start-up                       s    ratio to numpy")
    for name, seconds in (("import numpy", numpy), ("import hescribe", hescribe), ("hescribe --help", helped)):
        print(f"{name:26s} {seconds:6.3f}    {seconds / numpy:6.2f}")
    print("target: import hescribe under 0.3 s:", "met" if hescribe < 0.3 else "MISSED")


if __name__ == "__main__":
    main()
