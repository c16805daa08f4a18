"""The viewer on a slide of 40,000 x 40,000 px with 100,000 spots: first paint, a gene, panning, memory of the server.

Synthetic slide and prediction, made once in a temporary folder (or that of --folder). Needs Chromium and playwright.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE_PX, TILE_PX, MPP = 40_000, 512, 0.5
N_SPOTS, N_GENES = 100_000, 50
TARGETS = {
    "first paint s": 2.0, "gene ms": 300.0, "frames a second": 20.0, "frames a second, no GL": 20.0, "server MB": 500.0,
}  # fmt: skip
EMULATED = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NO_GL = ["--no-sandbox", "--disable-gpu"]  # what a browser on a machine without a graphics card does


def write_slide(path):
    """Write a pyramid of noise in the colours of H&E, tile by tile."""
    import tifffile

    rng = np.random.default_rng(0)
    patches = rng.integers(120, 240, (16, TILE_PX, TILE_PX, 3), dtype=np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        for level in range(6):
            side = SIDE_PX // 2**level
            n = -(-side // TILE_PX)
            um = MPP * 2**level
            out.write(
                (patches[(i * 7 + level) % len(patches)] for i in range(n * n)), shape=(side, side, 3), dtype=np.uint8,
                tile=(TILE_PX, TILE_PX), compression="jpeg", photometric="rgb", subfiletype=int(level > 0),
                resolution=(1e4 / um, 1e4 / um), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip


def write_prediction(path, slide):
    """Write a prediction of many spots."""
    import pandas as pd
    from anndata import AnnData

    from hescribe import keys
    from hescribe.data.h5ad import write_h5ad

    rng = np.random.default_rng(1)
    xy = rng.uniform(0, SIDE_PX * MPP, (N_SPOTS, 2))
    names = [f"GENE{g}" for g in range(N_GENES)]
    table = AnnData(
        obs=pd.DataFrame({keys.OOD: rng.random(N_SPOTS)}, index=[f"spot{i}" for i in range(N_SPOTS)]),
        var=pd.DataFrame({keys.TRUST: "predictable", "pearson": rng.random(N_GENES)}, index=names),
        obsm={keys.SPATIAL_UM: xy, keys.SPATIAL: xy / MPP},
        layers={keys.PREDICTED: rng.random((N_SPOTS, N_GENES), dtype=np.float32)},
        uns={"hescribe": {"source": str(slide), "mpp": MPP}},
    )
    write_h5ad(table, path)


def peak_mb(pid):
    """Return the largest memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def processor_s(pid):
    """Return the seconds of processor that a process and all that it started have taken."""
    parents, taken = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            facts = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(stat.parent.name)] = int(facts[1])
        taken[int(stat.parent.name)] = (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def is_below(one):
        return one == pid or (one in parents and is_below(parents[one]))

    return sum(s for one, s in taken.items() if is_below(one))


def pan(page):
    """Return frames a second while the map moves for three seconds, and milliseconds of processor a frame."""
    before = processor_s(os.getpid())
    frames = page.evaluate(
        """async () => {
            let n = 0;
            const range = Bokeh.documents.at(-1).roots()[0].x_range, start = performance.now();
            while (performance.now() < start + 3000) {
                range.setv({ start: range.start + 20, end: range.end + 20 });
                await new Promise(requestAnimationFrame);
                n += 1;
            }
            return [n, (performance.now() - start) / 1000];
        }"""
    )
    return frames[0] / frames[1], 1000 * (processor_s(os.getpid()) - before) / frames[0]


def open_page(browser, address):
    """Return the page, and the seconds until it is painted."""
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    start = time.perf_counter()
    page.goto(address, timeout=120_000)
    page.wait_for_function("window.HEscribe && HEscribe.ready", timeout=120_000)
    first = time.perf_counter() - start
    page.wait_for_timeout(3000)
    return page, first


def measure(address, pid):
    """Return the figures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=EMULATED)
        page, first = open_page(browser, address)
        genes = []
        for name in ("GENE3", "GENE17", "GENE40"):
            n = page.evaluate("HEscribe.painted")
            start = time.perf_counter()
            page.fill("#gene", name)
            page.wait_for_function(f"HEscribe.painted > {n}", polling=5, timeout=120_000)
            genes.append(time.perf_counter() - start)
        emulated, emulated_ms = pan(page)
        browser.close()
        browser = p.chromium.launch(executable_path=chromium, args=NO_GL)
        plain, plain_ms = pan(open_page(browser, address)[0])
        browser.close()
    print(f"processor ms a frame: {emulated_ms:.0f} with an emulated GPU, {plain_ms:.0f} without GL")
    return {
        "first paint s": first,
        "gene ms": 1000 * np.median(genes),
        "frames a second": emulated,
        "frames a second, no GL": plain,
        "server MB": peak_mb(pid),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        print("skipped: playwright is not installed")
        return
    folder = given.folder or Path(tempfile.mkdtemp())
    slide, prediction = folder / "slide.tiff", folder / "prediction"
    if not slide.exists():
        write_slide(slide)
        write_prediction(prediction / "slide.h5ad", slide)
    command = [sys.executable, "-m", "hescribe.cli", "view", str(prediction), "--no-browser", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        found = measure(server.stdout.readline().strip(), server.pid)
        server.terminate()
    for name, value in found.items():
        met = value >= TARGETS[name] if name.startswith("frames") else value < TARGETS[name]
        print(f"{name:22s} {value:8.1f}  target {TARGETS[name]:.0f}  {'met' if met else 'MISSED'}")
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
