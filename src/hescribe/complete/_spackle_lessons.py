"""What SpaCKLE learns from: neighbourhoods by their rows, with counts hidden anew in every batch.

Memory is linear in spots: a neighbourhood is a row of indices, and only those of a batch are gathered.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hescribe.complete._spackle_network import NeighbourhoodNetwork
from hescribe.complete.base import PER_MILLION, View
from hescribe.complete.hiding import DepthSeen, Missing, draw_lesson
from hescribe.complete.section_mean import section_means
from hescribe.data.section import Section
from hescribe.encode.features import embed_section
from hescribe.prep.graph import array_points, nearest_spots
from hescribe.prep.scale import Scale

N_LEVELS = 5  # shares of hidden counts at which a section's mean is taken
CHUNK = 2048  # spots completed at once


@dataclass(frozen=True, kw_only=True)
class Spots:
    """The spots of one or more sections.

    Parameters
    ----------
    counts, depth
        Shape ``(n_spots, n_genes)`` and ``(n_spots,)``, float32.
    near
        Row of the spot itself and of its neighbours of the same section, nearest first, shape
        ``(n_spots, 1 + n_neighbours)``; -1 where it has fewer.
    points
        Place in pitches, shape ``(n_spots, 2)``; comparable within a section only.
    image
        Features, section-standardised, shape ``(n_spots, n_image)``.
    """

    counts: Tensor
    depth: Tensor
    near: Tensor
    points: Tensor
    image: Tensor

    @classmethod
    def of(cls, views: list[View], *, n_neighbours: int, radius: float, encoder: str | None) -> "Spots":
        """Return the spots of sections; neighbours are at most ``radius`` pitches away."""
        near, start = [], 0
        for view in views:
            index, _ = nearest_spots(view.section, n_neighbours, radius=radius)
            index = np.hstack([np.arange(len(index))[:, None], index])
            near.append(np.where(index < 0, -1, index + start))
            start += len(index)
        points = [array_points(v.section) for v in views]
        # Those of one section are not copied, unless they may not be written to, which torch warns of.
        counts = views[0].counts if len(views) == 1 else np.concatenate([v.counts for v in views])
        return cls(
            counts=torch.from_numpy(np.require(counts, requirements="W")),
            depth=torch.from_numpy(np.concatenate([v.depth for v in views]).astype(np.float32)),
            near=torch.from_numpy(np.concatenate(near)),
            points=torch.from_numpy(np.concatenate([p - p.mean(axis=0) for p in points]).astype(np.float32)),
            image=torch.from_numpy(np.concatenate([image_features(v.section, encoder) for v in views])),
        )

    def surroundings(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows and places of the spots and their neighbours, and which of them are absent.

        Shapes ``(n, 1 + n_neighbours)``, the same with 2 coordinates, and as the first. An absent neighbour
        has the row and the place of the spot itself.
        """
        near = self.near[rows]
        absent = near < 0
        near = torch.where(absent, rows[:, None], near)
        return near, self.points[near], absent


def image_features(section: Section, encoder: str | None) -> np.ndarray:
    """Return section-standardised features of the spots' patches, shape ``(n_spots, n_image)``; none without encoder.

    Raises
    ------
    InputError
        If there is an encoder and the section has no image.
    """
    if encoder is None:
        return np.zeros((section.n_spots, 0), dtype=np.float32)
    x = embed_section(section, encoder)
    return Scale.of(x).apply(x).astype(np.float32)


def log_values(counts: Tensor, depth: Tensor) -> Tensor:
    """Return log2(1 + 1e6 * count / depth), as ``complete.base.to_values`` does."""
    return torch.log2(1 + PER_MILLION * counts / depth.clamp(min=1)[..., None])


def section_levels(
    section: Section,
    otherwise: np.ndarray,
    rng: np.random.Generator,
    *,
    hide: tuple[float, float],
    missing: Missing,
    depth_seen: DepthSeen,
) -> np.ndarray:
    """Return a section's mean visible values when counts are hidden, shape ``(N_LEVELS, n_genes)``.

    One row for each of evenly spaced shares, from the least to the greatest; ``otherwise`` where a gene is not visible.
    """
    levels = []
    for share in np.linspace(*hide, N_LEVELS):
        lesson = draw_lesson(section, float(share), rng, missing=missing, depth_seen=depth_seen)
        levels.append(section_means(View.of(lesson.section), otherwise))
    return np.stack(levels)


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Batches of neighbourhoods in which counts are hidden.

    Parameters
    ----------
    spots
        Of all train sections.
    section
        Place of each spot's section, shape ``(n_spots,)``.
    levels
        What values are centred on, shape ``(n_sections, N_LEVELS, n_genes)``; see ``section_levels``.
    spread
        What they are divided by, shape ``(n_genes,)``.
    hide
        Least and greatest share of a neighbourhood's counts that is hidden.
    missing, depth_seen
        How they are: see ``complete.hiding.draw_lesson``.
    """

    spots: Spots
    section: Tensor
    levels: Tensor
    spread: Tensor
    hide: tuple[float, float]
    missing: Missing
    depth_seen: DepthSeen

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return values, where they are visible, image, places, absent neighbours, answers and which of them count.

        Each neighbourhood has its own share of hidden counts; answers are those of the centre.
        """
        near, points, absent = self.spots.surroundings(rows)
        place = torch.rand(len(rows), generator=generator)  # of the share to hide, from the least to the greatest
        share = self.hide[0] + (self.hide[1] - self.hide[0]) * place[:, None, None]
        draw = self._hide if self.missing == "measured" else self._thin
        shown, depth, answer, asked = draw(self.spots.counts[near], self.spots.depth[near], share, generator)
        level = self._level(rows, place)
        values = (log_values(shown, depth) - level[:, None]) / self.spread
        return values, shown > 0, self.spots.image[near], points, absent, (answer - level) / self.spread, asked

    def _hide(
        self, counts: Tensor, depth: Tensor, share: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hide whole counts; return those shown, their depth, the centres' values and which of them were hidden."""
        hidden = (counts > 0) & (torch.rand(counts.shape, generator=generator) < share)
        if self.depth_seen == "visible":
            depth = depth - (counts * hidden).sum(dim=-1)
        return counts.masked_fill(hidden, 0.0), depth, log_values(counts[:, 0], depth[:, 0]), hidden[:, 0]

    def _thin(
        self, counts: Tensor, depth: Tensor, share: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Set a part of every count aside; return as ``_hide``, the answer being the other part where none is shown."""
        others = (depth - counts.sum(dim=-1)).clamp(min=0).round()
        aside = torch.binomial(counts, share.expand_as(counts), generator=generator)
        others_aside = torch.binomial(others, share[..., 0].expand_as(others), generator=generator)
        shown, depth_aside = counts - aside, aside[:, 0].sum(dim=-1) + others_aside[:, 0]
        depth = shown.sum(dim=-1) + others - others_aside
        asked = (shown[:, 0] == 0) & (depth_aside > 0)[:, None]
        return shown, depth, log_values(aside[:, 0], depth_aside), asked

    def _level(self, rows: Tensor, place: Tensor) -> Tensor:
        """Return the level of each neighbourhood's section at its share of hidden counts, shape ``(n, n_genes)``."""
        at = place * (N_LEVELS - 1)
        low = at.long().clamp(max=N_LEVELS - 2)
        of = self.section[rows]
        return torch.lerp(self.levels[of, low], self.levels[of, low + 1], (at - low)[:, None])


def masked_error(network: NeighbourhoodNetwork, spread: Tensor, *, bfloat16: bool) -> Callable[..., Tensor]:
    """Return the loss: mean squared error over what is asked of the centres, in the unit of the values."""

    def loss(*batch: Tensor) -> Tensor:
        values, visible, image, points, absent, answer, asked = batch
        with torch.autocast(values.device.type, torch.bfloat16, enabled=bfloat16):
            found = network(network.tokens(values, visible, image), points, absent)
        error = (found.float() - answer) * spread.to(values.device) * asked
        return error.square().sum() / asked.sum().clamp(min=1)

    return loss


@torch.inference_mode()
def complete_spots(
    network: NeighbourhoodNetwork, spots: Spots, *, level: np.ndarray, spread: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Return the values of every entry of a section's spots, shape ``(n_spots, n_genes)`` float32.

    Parameters
    ----------
    network
        Ready to predict.
    spots
        Of one section.
    level, spread
        What its values are centred on and divided by, shape ``(n_genes,)`` float32.
    known
        False for a gene that was never measured in training: it is taken as not visible, shape ``(n_genes,)``.
    """
    level_of, spread_of, known_of = (torch.from_numpy(a) for a in (level, spread, known))
    chunks = torch.arange(len(spots.counts)).split(CHUNK)

    def tokens_of(rows: Tensor) -> Tensor:
        counts = spots.counts[rows]
        values = (log_values(counts, spots.depth[rows]) - level_of) / spread_of
        return network.tokens(values, (counts > 0) & known_of, spots.image[rows])

    # With nothing hidden a spot looks the same to all its neighbours: one token each.
    tokens = torch.cat([tokens_of(rows) for rows in chunks])
    out = torch.empty(spots.counts.shape)
    for rows in chunks:
        near, points, absent = spots.surroundings(rows)
        out[rows] = network(tokens[near], points, absent) * spread_of + level_of
    return out.numpy()
