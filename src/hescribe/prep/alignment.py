"""Whether spots and image fit, judged by the tissue under the spots and the darkness under the deep ones.

Spots were put on tissue, and cells, which stain dark, give counts. Where the spots would hold more tissue after a
shift by one or two pitches, or counts would follow darkness better in a turned or mirrored image, the places of the
spots are probably wrong.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from hescribe import keys
from hescribe.data.section import Section
from hescribe.prep.graph import pitch_um
from hescribe.prep.tissue import MASK_MPP
from hescribe.units import to_px

MIN_SPOTS = 30  # fewer say nothing about a share or a correlation
STEPS = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)]
# Of 41 sections (her2st, stutility_mob, thirty synthetic ones) none gains more than 0.01 of tissue by a shift or a
# turn, nor 0.05 of correlation by a turn that keeps the tissue. With these limits 97 % of shifts by one pitch, all by
# two and 98 % of turns are noticed on them (benchmarks/alignment.py).
SHIFT_GAIN, TURN_GAIN, DARKNESS_GAIN = 0.02, 0.05, 0.2


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How well the spots of a section fit its image.

    Parameters
    ----------
    is_on_tissue
        Whether the centre of each spot is on stained tissue, shape ``(n_spots,)`` bool.
    shifted
        The highest share after a shift in one of eight directions, by the number of pitches (1 and 2).
    turned
        The same after each turn or mirror of the image, by name.
    darkness
        Spearman correlation of depth and darkness under the spot; None for under 30 spots or no counts.
    turned_darkness
        The same after each turn or mirror.
    """

    is_on_tissue: np.ndarray
    shifted: dict[int, float]
    turned: dict[str, float]
    darkness: float | None
    turned_darkness: dict[str, float]

    @property
    def on_tissue(self) -> float:
        """Share of spot centres on stained tissue."""
        return float(self.is_on_tissue.mean())

    @property
    def problems(self) -> list[str]:
        """What fits better than the places as they are, one sentence each; empty if nothing does, or under 30 spots."""
        if len(self.is_on_tissue) < MIN_SPOTS:
            return []
        found = []
        pitches, shifted = max(self.shifted.items(), key=lambda item: item[1])
        turn, turned = max(self.turned.items(), key=lambda item: item[1])
        if turned > max(self.on_tissue + TURN_GAIN, shifted):
            return [f"{turned:.0%} of the spots would be on tissue {turn}, {self.on_tissue:.0%} are"]
        if shifted > self.on_tissue + SHIFT_GAIN:
            found.append(
                f"{shifted:.0%} of the spots would be on tissue after a shift by {pitches} pitch"
                f"{'' if pitches == 1 else 'es'}, {self.on_tissue:.0%} are"
            )
        if self.darkness is not None:
            likely = {k: r for k, r in self.turned_darkness.items() if self.turned[k] >= self.on_tissue - TURN_GAIN}
            turn, r = max(likely.items(), key=lambda item: item[1], default=("", -1.0))
            if r > self.darkness + DARKNESS_GAIN:
                found.append(f"depth follows darkness better {turn} (r {r:.2f}, {self.darkness:.2f} as it is)")
        return found


def check_alignment(section: Section, pixels: np.ndarray, mask: np.ndarray) -> Alignment:
    """Return how well the spots of a section fit its image.

    Parameters
    ----------
    section
        With an image and spot coordinates in um.
    pixels
        Its whole image at ``MASK_MPP``, shape ``(h, w, 3)`` uint8.
    mask
        Where it shows tissue, from ``find_tissue``, shape ``(h, w)`` bool.
    """
    assert section.image is not None
    xy, pitch = section.xy_um, pitch_um(section)
    turned = turned_places(xy, *section.image.size_um)
    shifted = {n: max(_share(mask, xy + n * pitch * np.array(step)) for step in STEPS) for n in (1, 2)}
    darkness, turned_darkness = None, {}
    if keys.COUNTS in section.table.layers and section.n_spots >= MIN_SPOTS:
        dark = _darkness(pixels, pitch)
        darkness = _rank_correlation(_look_up(dark, xy), section.depth)
        turned_darkness = {k: _rank_correlation(_look_up(dark, p), section.depth) for k, p in turned.items()}
    return Alignment(
        is_on_tissue=_look_up(mask, xy) > 0,
        shifted=shifted,
        turned={k: _share(mask, p) for k, p in turned.items()},
        darkness=darkness,
        turned_darkness=turned_darkness,
    )


def _share(mask: np.ndarray, xy_um: np.ndarray) -> float:
    return float(_look_up(mask, xy_um).mean())


def _look_up(image: np.ndarray, xy_um: np.ndarray) -> np.ndarray:
    """Return the values of a map at ``MASK_MPP`` under some places, 0 outside of it, shape ``(n_spots,)``."""
    column, row = np.floor(to_px(xy_um, MASK_MPP)).astype(int).T
    inside = (row >= 0) & (column >= 0) & (row < image.shape[0]) & (column < image.shape[1])
    values = np.zeros(len(xy_um))
    values[inside] = image[row[inside], column[inside]]
    return values


def turned_places(xy_um: np.ndarray, width_um: float, height_um: float) -> dict[str, np.ndarray]:
    """Return where the spots would be if their places were meant for a turned or mirrored image."""
    x, y = xy_um.T
    left, up = width_um - x, height_um - y
    return {
        "with x and y swapped": np.column_stack([y, x]),
        "mirrored left to right": np.column_stack([left, y]),
        "mirrored top to bottom": np.column_stack([x, up]),
        "turned by half": np.column_stack([left, up]),
        "turned by a quarter": np.column_stack([height_um - y, x]),
        "turned back by a quarter": np.column_stack([y, width_um - x]),
        "with x and y swapped and turned by half": np.column_stack([height_um - y, width_um - x]),
    }


def _darkness(pixels: np.ndarray, pitch: float) -> np.ndarray:
    """Return the mean optical density around every pixel, over half a pitch, shape ``(h, w)``."""
    density = -np.log10(np.maximum(pixels, 1) / np.float32(255)).mean(axis=2)
    return np.asarray(ndimage.uniform_filter(density, max(1, round(float(to_px(pitch / 2, MASK_MPP))))))


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation, 0 where one side is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)
