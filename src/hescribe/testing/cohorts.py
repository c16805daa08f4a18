"""Small synthetic cohorts for tests: rendered in a moment, with a signal that colour carries."""

import zlib

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard, SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.prep.counts import with_lognorm


def raw_colour_cohort(n_donors: int = 3, sections_per_donor: int = 2) -> Cohort:
    """Return a cohort of colour sections as an import gives them: sparse counts, nothing fitted."""
    n = n_donors * sections_per_donor
    sections = tuple(colour_section(i, f"D{i // sections_per_donor}") for i in range(n))
    return Cohort(sections, DatasetCard(id="colour", title="small synthetic cohort", synthetic=True))


def colour_cohort(n_donors: int = 3, sections_per_donor: int = 2) -> Cohort:
    """Return the same cohort with dense, log-normalised layers, as ``fit`` is given it."""
    return raw_colour_cohort(n_donors, sections_per_donor).map(_prepare)


def planted_cohort(signals: list[np.ndarray], targets: list[np.ndarray]) -> Cohort:
    """Return a cohort that shows one thing and expresses another, one section and donor for each pair.

    Parameters
    ----------
    signals
        What the colour of each spot of a square section shows, 0 to 1, shape ``(n_spots,)``.
    targets
        Its target layer, shape ``(n_spots, n_genes)``.
    """
    sections = []
    for i, (signal, target) in enumerate(zip(signals, targets, strict=True)):
        n_side = round(len(signal) ** 0.5)
        section = _prepare(colour_section(i, f"D{i}", n_side=n_side, n_genes=target.shape[1], signal=signal))
        section.table.layers[keys.TARGET] = target.astype(np.float32)
        sections.append(section)
    return Cohort(tuple(sections), DatasetCard(id="planted", title="planted synthetic cohort", synthetic=True))


def colour_section(
    index: int, donor: str, *, n_side: int = 7, n_genes: int = 12, mpp: float = 4.0, signal: np.ndarray | None = None
) -> Section:
    """Return a small synthetic section whose colour carries the expression of half of its genes."""
    rng = np.random.default_rng(index)
    row, col = (a.ravel() for a in np.mgrid[:n_side, :n_side])
    signal = np.clip(rng.normal(0.5, 0.25, n_side * n_side), 0, 1) if signal is None else signal
    side_px = round(n_side * 200 / mpp)
    pixels = np.full((side_px, side_px, 3), 230, dtype=np.uint8)
    step = side_px // n_side
    for r, c, s in zip(row, col, signal, strict=True):
        patch = np.array([200 - 90 * s, 150 - 80 * s, 190 - 20 * s]) + rng.normal(0, 6, (step, step, 3))
        pixels[r * step : (r + 1) * step, c * step : (c + 1) * step] = np.clip(patch, 0, 255)
    rate = np.exp(rng.normal(1.0, 0.5, n_genes))[None] * np.ones((n_side * n_side, 1))
    rate[:, : n_genes // 2] *= np.exp(1.5 * (signal - 0.5))[:, None]
    spot_depth = rng.lognormal(0.0, 0.3, (n_side * n_side, 1))
    counts = rng.poisson(rate * spot_depth * 15).astype(np.float32)
    others = rng.poisson(5000 * spot_depth[:, 0])  # genes outside the panel: composition stays put
    xy_um = np.column_stack([col + 0.5, row + 0.5]) * 200.0
    table = AnnData(
        obs=pd.DataFrame(
            {keys.ARRAY_ROW: row, keys.ARRAY_COL: col, keys.DEPTH: counts.sum(axis=1) + others},
            index=[f"{c}x{r}" for r, c in zip(row, col, strict=True)],
        ),
        var=pd.DataFrame(index=[f"GENE{g}" for g in range(n_genes)]),
        obsm={keys.SPATIAL_UM: xy_um, keys.SPATIAL: xy_um / mpp},
        layers={keys.COUNTS: sparse.csr_matrix(counts)},
    )
    fingerprint = f"image-{index}-{zlib.crc32(pixels.tobytes())}"
    card = SectionCard(technology=TECHNOLOGIES["toy"], organ="none", pitch_um=200.0, mpp=mpp, mpp_source="synthetic")
    return Section(f"s{index}", donor, table, ArrayImage(pixels, mpp, fingerprint), card)


def textured_section(index: int, donor: str, *, n_side: int = 10, patch_px: int = 12) -> tuple[Section, np.ndarray]:
    """Return a section whose expression is in a texture: a checkerboard on each spot, on a colour that says nothing.

    Returns
    -------
    The section, and the strength of the checkerboard of each spot, 0 to 1, with which twelve genes rise or fall.
    """
    rng = np.random.default_rng(index)
    strength = rng.uniform(0, 1, n_side * n_side)
    board = np.indices((patch_px, patch_px)).sum(axis=0) % 2 - 0.5
    patches = (
        rng.uniform(90, 160, (n_side * n_side, 1, 1, 3)) + 70 * strength[:, None, None, None] * board[None, :, :, None]
    )
    pixels = patches.reshape(n_side, n_side, patch_px, patch_px, 3).swapaxes(1, 2).reshape(n_side * patch_px, -1, 3)
    row, col = (a.ravel() for a in np.mgrid[:n_side, :n_side])
    y = np.outer(strength, np.linspace(-2, 2, 12)) + rng.normal(0, 0.2, (n_side * n_side, 12))
    table = AnnData(
        obs=pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col}, index=[f"{i}" for i in range(n_side * n_side)]),
        var=pd.DataFrame(index=[f"GENE{g}" for g in range(12)]),
        obsm={keys.SPATIAL_UM: np.column_stack([col + 0.5, row + 0.5]) * 200.0},
        layers={keys.TARGET: y.astype(np.float32), keys.COUNTS: np.round(20 * np.exp(y / 2))},
    )
    image = ArrayImage(pixels.clip(0, 255).astype(np.uint8), 200.0 / patch_px, f"texture-{index}")
    return Section(f"t{index}", donor, table, image, colour_section(index, donor).card), strength


def _prepare(section: Section) -> Section:
    table = with_lognorm(section).table
    for name in (keys.COUNTS, keys.LOGNORM):
        table.layers[name] = table.layers[name].toarray()
    table.layers[keys.TARGET] = table.layers[keys.LOGNORM]
    return section.with_table(table)
