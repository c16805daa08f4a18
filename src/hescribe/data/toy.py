"""`toy@1`: a synthetic cohort with rendered H&E-like images, realistic counts and a known truth.

Donors differ in stain, scanner, depth, tissue and gene levels, as in her2st, on which the generator is
calibrated (docs/toy.md). It is frozen: any change of its output makes it toy@2.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard, SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.data.toy_counts import (
    DRIVERS,
    Panel,
    Sampling,
    draw_counts,
    draw_depth,
    draw_panel,
    draw_sampling,
    draw_truth,
    visible_features,
)
from hescribe.data.toy_image import Stain, draw_stain, render, vary_stain
from hescribe.data.toy_tissue import ORGANS, draw_tissue
from hescribe.errors import InputError
from hescribe.units import check_mpp, to_px

VERSION = "toy@1"
OF_GRADE = np.array([0, 0, 0, 0, 1.0])  # of the tilt of a donor, what is nuclear grade
GOLDEN = (5**0.5 - 1) / 2  # steps of the golden ratio fill an interval evenly, however many are taken


@dataclass(frozen=True)
class _Donor:
    """What all sections of a donor share."""

    id: str
    organ: str
    tilt: np.ndarray
    stain: Stain
    sampling: Sampling
    grade: float = 0.0


@dataclass(frozen=True)
class _Scale:
    n_spots: int
    pitch_um: float
    mpp: float


def toy_cohort(
    seed: int,
    *,
    n_donors: int = 6,
    sections_per_donor: int = 1,
    n_spots: int = 200,
    n_genes: int = 300,
    organs: tuple[str, ...] = ("breast",),
    pitch_um: float = 200.0,
    mpp: float = 1.0,
    grades: tuple[float, ...] = (),
) -> Cohort:
    """Generate a synthetic cohort whose true expression is known.

    Methods are designed on seeds 0-9 and reported on seeds 100-109.

    ``layers["truth"]`` is ln(1 + 1e4 * p), where p is the gene's expected share of the counts of
    its spot: the log-normalised expression without count noise, dropout and the spot's depth.
    ``layers["truth_visible"]`` is the same without the smooth and the spot-wise programs that no image
    shows: what a perfect reader of the image, who also knows the donor, could say.
    ``var["driver"]`` says what moves a gene inside a section: the composition of the spot, the
    composition of its surroundings (context), the density or the size of its nuclei, a smooth field
    that the image does not show, or nothing (noise).

    Parameters
    ----------
    seed
        Each seed is another cohort: other genes, donors and sections.
    n_donors
        Donor i is the same for every number of donors.
    sections_per_donor
        Sections of a donor share stain, gene levels and depth; their layouts are drawn apart.
    n_spots
        Spots per section.
    n_genes
        Genes in the panel. Depth counts all genes, also those outside the panel.
    organs
        Of ``breast``, ``colon``, ``kidney``, ``lymph_node``; donors take them in turn. They share the panel, and
        differ in layout and in what each gene follows.
    pitch_um
        Distance between neighbouring spots; a small one (10) puts 100,000 spots on one image of normal size.
    mpp
        um per pixel of the images.
    grades
        Added to the nuclear grade of each donor, as a mutation would: nuclei of the tumour become larger and more
        crowded, and with them genes whose driver is size or density change. Empty adds nothing.

    Returns
    -------
    Sections with counts, truth and depth, and images held in memory (about 15 million pixels
    for 200 spots at 1 um).

    Raises
    ------
    InputError
        If a number is out of range, an organ is unknown, or there is not one grade for each donor.

    Examples
    --------
    >>> cohort = toy_cohort(0, n_donors=2, n_spots=12, n_genes=5)
    >>> cohort.donors, cohort[0].table.shape, cohort[0].image.mpp
    (('D01', 'D02'), (12, 5), 1.0)
    """
    _check_least(seed=(seed, 0), n_donors=(n_donors, 1), sections_per_donor=(sections_per_donor, 1))
    _check_least(n_spots=(n_spots, 1), n_genes=(n_genes, 2))
    _check_choices(organs, pitch_um)
    if grades and len(grades) != n_donors:
        raise InputError(f"toy_cohort: grades has {len(grades)} numbers for {n_donors} donors; give one for each")
    scale = _Scale(n_spots, pitch_um, check_mpp(mpp, VERSION))
    panel = draw_panel(_rng(seed, 0), n_genes)
    first = float(_rng(seed, 2).random())
    sections = []
    for i in range(n_donors):
        donor = _draw_donor(_rng(seed, 1, i), i, organs[i % len(organs)], panel, (first + i * GOLDEN) % 1)
        donor = replace(donor, grade=grades[i]) if grades else donor
        for j in range(sections_per_donor):
            name = f"{donor.id}S{j + 1}" if sections_per_donor > 1 else donor.id
            sections.append(_draw_section((seed, 1, i, j), name, donor, panel, scale))
    card = DatasetCard(
        id=f"{VERSION}-{seed}",
        title=f"Synthetic cohort {VERSION}, seed {seed}",
        organism="synthetic",
        organ=", ".join(dict.fromkeys(s.card.organ for s in sections)),
        technology="toy",
        licence="BSD-3-Clause",
        citation="hescribe.data.toy",
        warnings=("Generated data: its scores say nothing about tissue.",),
        synthetic=True,
    )
    return Cohort(tuple(sections), card)


def _rng(seed: int, *branch: int) -> np.random.Generator:
    """Return the source of one branch of the seed's tree, whatever else is drawn."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=branch))


def _draw_donor(rng: np.random.Generator, i: int, organ: str, panel: Panel, level: float) -> _Donor:
    tilt = 0.35 * rng.standard_normal(5)
    return _Donor(f"D{i + 1:02d}", organ, tilt, draw_stain(rng), draw_sampling(rng, panel, organ, level))


def _draw_section(branch: tuple[int, ...], name: str, donor: _Donor, panel: Panel, scale: _Scale) -> Section:
    for_tissue, for_image, for_counts = (_rng(*branch, part) for part in range(3))
    pitch_um, mpp = scale.pitch_um, scale.mpp
    tissue = draw_tissue(for_tissue, ORGANS[donor.organ], scale.n_spots, pitch_um, donor.tilt + donor.grade * OF_GRADE)
    pixels = render(for_image, tissue, vary_stain(for_image, donor.stain), mpp)
    features = visible_features(tissue, pitch_um)
    share, visible = draw_truth(for_counts, panel, donor.sampling, tissue, features)
    expected = draw_depth(for_counts, donor.sampling, tissue, features)
    counts, depth = draw_counts(for_counts, panel, share, expected)
    table = AnnData(
        obs=pd.DataFrame(
            {keys.ARRAY_ROW: tissue.row, keys.ARRAY_COL: tissue.col, keys.DEPTH: depth.astype(np.int64)},
            index=[f"{x}x{y}" for x, y in zip(tissue.col, tissue.row, strict=True)],
        ),
        var=pd.DataFrame({keys.DRIVER: [DRIVERS[k] for k in panel.driver]}, index=list(panel.names)),
        layers={
            keys.COUNTS: counts,
            keys.TRUTH: np.log1p(1e4 * share).astype(np.float32),
            keys.TRUTH_VISIBLE: np.log1p(1e4 * visible).astype(np.float32),
        },
        obsm={keys.SPATIAL: np.asarray(to_px(tissue.xy_um, mpp)), keys.SPATIAL_UM: tissue.xy_um},
    )
    card = SectionCard(
        technology=TECHNOLOGIES["toy"],
        organ=donor.organ,
        organism="synthetic",
        pitch_um=pitch_um,
        mpp=mpp,
        mpp_source="synthetic",
    )
    drawn = f"{VERSION} {branch} {scale} {donor.organ}{f' {donor.grade}' if donor.grade else ''}"
    fingerprint = hashlib.sha256(drawn.encode()).hexdigest()
    return Section(name, donor.id, table, ArrayImage(pixels, mpp, fingerprint), card)


def _check_least(**given: tuple[int, int]) -> None:
    """Refuse a number below its least value."""
    for name, (value, least) in given.items():
        if value < least:
            raise InputError(f"toy_cohort: {name} is {value} and must be at least {least}")


def _check_choices(organs: tuple[str, ...], pitch_um: float) -> None:
    """Refuse unknown organs and an absurd pitch."""
    if not organs or not set(organs) <= ORGANS.keys():
        raise InputError(f"toy_cohort: organs is {organs!r}; choose one or more of {', '.join(ORGANS)}")
    if not 5.0 <= pitch_um <= 1000.0:
        raise InputError(f"toy_cohort: pitch_um is {pitch_um:g} and must lie between 5 and 1000 um")
