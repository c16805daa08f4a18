"""Give every reader damaged input by the thousand, and print what broke its promise.

Run by ``make fuzz``, not by ``make bench``: it takes hours and measures no speed. The targets and the promise are
those of ``tests/fuzz``. A worker process does the reading, and is started again behind an input that ends it.
"""

import argparse
import collections
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HANGS_S = 60  # C code that no signal ends
FAR = 10**9  # between the seeds of a target that is drawn several times


def work(names, seeds, root):
    """Run inputs one after the other; each line on stdout is what became of one."""
    from tests.fuzz.harness import Box
    from tests.fuzz.targets import TARGETS

    boxes = {name: Box(TARGETS[name], root) for name in names}
    for seed, name in ((s, n) for s in seeds for n in names):
        box, share = boxes[name], TARGETS[name].share
        if share < 1 and seed % round(1 / share):
            continue
        for own in range(seed, seed + max(round(share), 1) * FAR, FAR):
            print(json.dumps([name, own]), flush=True)
            faulthandler.dump_traceback_later(HANGS_S, exit=True)
            escape = box.run(own)
            faulthandler.cancel_dump_traceback_later()
            if escape is not None:
                print(json.dumps([name, own, escape.what, str(box.reduce(escape))]), flush=True)


def watch(names, first, count, root):
    """Return the number of inputs by target, and escapes by target and kind; restart a worker that died."""
    n_inputs, escapes = collections.Counter(), {}
    todo, begin = first, time.perf_counter()
    while todo < first + count:
        words = [sys.executable, __file__, "--work", "--first", str(todo), "--count", str(first + count - todo)]
        words += ["--target", ",".join(names), "--root", str(root)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        log = root / "stderr.txt"
        with log.open("w") as err, subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True, env=env) as p:
            last = None
            for line in p.stdout:
                if not line.startswith("["):
                    continue
                name, seed, *found = json.loads(line)
                if found:
                    note(escapes, name, *found)
                else:
                    n_inputs[name] += 1
                    last = name, seed
                    if sum(n_inputs.values()) % 1000 == 0:
                        tell(n_inputs, escapes, begin)
        if p.returncode == 0:
            break
        if last is None:
            sys.exit(log.read_text())
        end = log.read_text().strip().splitlines()
        note(
            escapes,
            last[0],
            f"process ended with {p.returncode}",
            f"{last} ended the process ({p.returncode}): {' / '.join(end[-6:])}",
        )
        todo = last[1] % FAR + 1
    return n_inputs, escapes, begin


def note(escapes, name, what, text):
    """Keep the first of each kind, and print it."""
    kind = (name, what.split(" at ")[0][:60])
    if kind not in escapes:
        print(f"\nESCAPE {text}", flush=True)
    escapes[kind] = escapes.get(kind, 0) + 1


def tell(n_inputs, escapes, begin):
    """Print how far it is."""
    n, took = sum(n_inputs.values()), time.perf_counter() - begin
    print(f"{n} inputs in {took:.0f} s, {sum(escapes.values())} escapes of {len(escapes)} kinds", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--target", default="", help="names, separated by commas; all by default")
    parser.add_argument("--seed", type=int, default=None, help="run this one input alone")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=None, help="seeds of each target")
    parser.add_argument("--root", default="")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parents[1])]
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of our own below it
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as own:
        root = Path(asked.root or own)
        os.environ["HESCRIBE_CACHE"] = str(root / "cache")
        if asked.work:
            return work(asked.target.split(","), range(asked.first, asked.first + asked.count), root)
        from tests.fuzz.harness import Box
        from tests.fuzz.targets import TARGETS

        names = asked.target.split(",") if asked.target else list(TARGETS)
        if asked.seed is not None:
            print(Box(TARGETS[names[0]], root).run(asked.seed) or "kept its promise")
            return None
        count = asked.count or -(-asked.inputs // int(sum(TARGETS[n].share for n in names)))
        n_inputs, escapes, begin = watch(names, asked.first, count, root)
    for name in names:
        mine = sum(n for (t, _), n in escapes.items() if t == name)
        print(f"{name:12s} {n_inputs[name]:7d} inputs {mine:5d} escapes")
    tell(n_inputs, escapes, begin)
    sys.exit(bool(escapes))


if __name__ == "__main__":
    main()
