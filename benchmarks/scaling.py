"""Cost in spots: import, embed (colour) and ridge at 10^3, 10^4 and 10^5 synthetic spots.

Each step runs in its own process, so that its peak memory is its own. The spots lie closer on
larger sections, so that only their number grows. Linear cost shows as a constant time per spot.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hescribe.memory import peak_mb

SIZES = (1_000, 10_000, 100_000)
STEPS = ("import", "embed", "ridge")


def prepare(folder, n_spots):
    """Write two synthetic sections of two donors as h5ad files with PNG images."""
    from PIL import Image

    from hescribe import keys
    from hescribe.data.toy import toy_cohort

    source = folder / "source"
    source.mkdir()
    lines = []
    for section in toy_cohort(0, n_donors=2, n_spots=n_spots // 2, n_genes=300, pitch_um=10.0, mpp=2.0):
        table = section.table
        for layer in [k for k in table.layers if k != keys.COUNTS]:
            del table.layers[layer]
        table.write_h5ad(source / f"{section.id}.h5ad")
        Image.fromarray(section.image.pixels).save(source / f"{section.id}.png", compress_level=1)
        facts = f'id = "{section.id}"\nimage = "{section.id}.png"\ndonor = "{section.donor}"\nmpp = 2.0\n'
        lines.append(f"[[section]]\n{facts}")
    (source / "manifest.toml").write_text("\n".join(lines))


def step(name, folder):
    """Run one step and return its seconds and peak memory."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.data.importing import import_cohort
    from hescribe.encode.features import embed_section
    from hescribe.predict.ridge import RidgePredictor

    cohort = folder / "cohort"
    start = time.perf_counter()
    if name == "import":
        import_cohort(folder / "source", "h5ad", cohort, manifest=folder / "source" / "manifest.toml")
    elif name == "embed":
        for section in read_cohort(cohort):
            embed_section(section, "color", cache=folder / "cache")
    else:
        import os

        os.environ["HESCRIBE_CACHE"] = str(folder / "cache_ridge")
        (folder / "cache_ridge").mkdir()
        (folder / "cache_ridge" / "features").symlink_to(folder / "cache")
        task = PredictionTask(read_cohort(cohort), read_protocol("donor-v1"))
        train = task.on_panel(task.prepared, task.choose_genes(task.prepared))
        start = time.perf_counter()
        fitted = RidgePredictor(encoder="color", alpha=100.0).fit(train)
        fitted.predict(train[0].blind())
    return {"seconds": time.perf_counter() - start, "peak_mb": peak_mb()}


def main():
    """Print the table."""
    print(f"{'step':8s} {'spots':>8s} {'s':>8s} {'us/spot':>8s} {'peak MB':>8s}")
    for n_spots in SIZES:
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), n_spots)
            for s in STEPS:
                done = subprocess.run([sys.executable, __file__, s, name], capture_output=True, text=True, check=True)
                cost = json.loads(done.stdout.splitlines()[-1])
                per_spot = 1e6 * cost["seconds"] / n_spots
                print(f"{s:8s} {n_spots:8d} {cost['seconds']:8.2f} {per_spot:8.1f} {cost['peak_mb']:8.0f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(step(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
