"""All genes: seconds and peak memory of adding them to a fit, and of predicting 1,000 genes on up to 10^5 spots.

Each size runs in its own process, so that its peak memory is its own. Features of 1,280 numbers a spot are drawn at
random and lie on disk, as cached ones do: their values change no cost. Linear cost shows as a constant per spot.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scaling import peak_mb

N_GENES, TARGET_S = 1000, 30.0
CHEAP = ("color", "look")  # that controls and doubts read
SIZES = (10_000, 30_000, 100_000)
N_ALL = 10_000  # genes of the toy cohort that is fitted on all of them


def draw_features(section, encoder, **_):
    """Return features of a section from disk, drawn there the first time; small toy sections keep cheap ones."""
    from hescribe.encode.base import create_encoder
    from hescribe.encode.features import embed_section

    if section.id != "large" and encoder in CHEAP:
        return embed_section(section, encoder)
    card = create_encoder(encoder).card
    path, shape = Path(sys.argv[-1]) / f"{section.id}_{encoder}_{section.n_spots}.npy", (section.n_spots, card.n_dims)
    if not path.exists():
        np.save(path, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    return np.hstack([np.load(path)] * len(card.fov_um))


def spread(n_spots):
    """Return a bare section with a square grid of spots, 200 um apart."""
    import pandas as pd
    from anndata import AnnData

    from hescribe import keys
    from hescribe.cards import TECHNOLOGIES, SectionCard
    from hescribe.data.image import ArrayImage
    from hescribe.data.section import Section

    side = int(np.ceil(n_spots**0.5))
    row, col = (a.ravel()[:n_spots] for a in np.mgrid[:side, :side])
    obs = pd.DataFrame(
        {keys.ARRAY_ROW: row, keys.ARRAY_COL: col}, index=[f"{c}x{r}" for c, r in zip(col, row, strict=True)]
    )
    table = AnnData(obs=obs, obsm={keys.SPATIAL_UM: (np.column_stack([col, row]) + 0.5) * 200.0})
    image = ArrayImage(np.zeros((1, 1, 3), np.uint8), 10.0, "none")
    return Section("large", "new", table, image, SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=200.0))


def fit(model, n_genes, n_panel):
    """Fit a context ridge on 1,536 toy spots; return the seconds, the model, the cohort and the protocol."""
    from dataclasses import replace

    from hescribe.bench import doubt
    from hescribe.bench.fitting import fit_model
    from hescribe.bench.ladder import create_model
    from hescribe.bench.protocols import read_protocol
    from hescribe.data.toy import toy_cohort
    from hescribe.encode import spot_inputs

    spot_inputs.embed_section = doubt.embed_section = draw_features
    cohort = toy_cohort(0, n_donors=3, n_spots=512, n_genes=n_genes, mpp=4.0)
    protocol = replace(read_protocol("donor-v1"), n_genes=n_panel)
    start = time.perf_counter()
    model = fit_model(create_model(model), cohort, protocol)
    return time.perf_counter() - start, model, cohort, protocol


def step(name):
    """Run one step and return its seconds and peak memory."""
    from hescribe.bench.all_genes import add_genes
    from hescribe.bench.fitting import predict_table

    if name == "fit":
        panel_s, model, cohort, protocol = fit("context_ridge", N_ALL, 250)
        start = time.perf_counter()
        add_genes(model, cohort, protocol)
        return {"panel_s": panel_s, "seconds": time.perf_counter() - start, "peak_mb": peak_mb()}
    _, model, _, _ = fit("default", N_GENES, N_GENES)
    section = spread(int(name))
    for encoder in ("color", "efficientnet_lite0", "look"):
        draw_features(section, encoder)
    start, busy = time.perf_counter(), time.process_time()
    table = predict_table(model, section)
    assert table.shape == (int(name), N_GENES)
    cost = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - busy}
    return {**cost, "peak_mb": peak_mb()}


def run(name, folder):
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, name, folder]
    environment = {**os.environ, "HESCRIBE_CACHE": folder}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        cost = run("fit", folder)
        print(f"1,536 spots, context ridge: panel of 250 in {cost['panel_s']:.1f} s,", end=" ")
        print(f"then all {N_ALL:,} genes in {cost['seconds']:.1f} s, peak {cost['peak_mb']:.0f} MB", flush=True)
        print(f"\n{N_GENES:,} genes with intervals by the default predictor, from cached features")
        print(f"{'spots':>8s} {'s':>7s} {'s of CPU':>8s} {'us/spot':>8s} {'peak MB':>8s}")
        for n_spots in SIZES:
            cost = run(str(n_spots), folder)
            per_spot = 1e6 * cost["seconds"] / n_spots
            numbers = f"{cost['seconds']:7.1f} {cost['cpu_s']:8.1f} {per_spot:8.1f} {cost['peak_mb']:8.0f}"
            print(f"{n_spots:8d} {numbers}", flush=True)
    verdict = "met" if cost["seconds"] < TARGET_S else "MISSED"
    print(f"10^5 spots x 1,000 genes under {TARGET_S:.0f} s: {verdict}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(step(sys.argv[1])))
    else:
        main()
