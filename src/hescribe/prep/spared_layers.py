"""The layers of SpaRED's preparation, section by section."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError
from hescribe.prep.denoise import adaptive_median
from hescribe.prep.graph import spot_graph
from hescribe.prep.tpm import rate_of, total_rate

LOGS = (keys.LOG1P, keys.D_LOG1P, keys.C_LOG1P, keys.C_D_LOG1P)
DELTAS_OF = dict(zip(LOGS, (keys.DELTAS, keys.D_DELTAS, keys.C_DELTAS, keys.C_D_DELTAS), strict=True))
MEAN_OF = dict(zip(LOGS, keys.MEANS, strict=True))
# What is measured, with its gaps left: (layer, its noisy form, layer whose mean a gap lies below; None: a gap is 0).
NOISY = (
    (keys.D_LOG1P, keys.NOISY_D_LOG1P, None),
    (keys.D_DELTAS, keys.NOISY_D_DELTAS, keys.D_LOG1P),
    (keys.C_D_LOG1P, keys.NOISY_C_D_LOG1P, None),
    (keys.C_D_DELTAS, keys.NOISY_C_D_DELTAS, keys.C_D_LOG1P),
)


@dataclass(frozen=True)
class Panels:
    """The genes that each step leaves, by name.

    Parameters
    ----------
    passed
        Genes that pass F3, in its order: a spot without a count of these is left out (F4).
    retained
        Those of them that have a length: the transcripts per million of a spot add up over these (P2).
    length_bp
        Their lengths, shape ``(n_retained,)``.
    genes
        Those of them that are kept (P6), in descending order of Moran's I.
    """

    passed: tuple[str, ...]
    retained: tuple[str, ...]
    length_bp: np.ndarray
    genes: tuple[str, ...] = ()

    def cut(self, section: Section, spots: np.ndarray) -> tuple[Section, np.ndarray]:
        """Return the section on the kept genes and on those of the spots that have a count of the passed ones.

        Returns
        -------
        The section, and its spots' sums of count / length over the retained genes, shape ``(n_spots,)``.

        Raises
        ------
        InputError
            If no spot is left.
        PanelError
            If the section lacks one of the passed genes.
        """
        counts = sparse.csr_matrix(section.table.layers[keys.COUNTS])
        place = {g: i for i, g in enumerate(section.genes)}
        if missing := [g for g in self.passed if g not in place]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise PanelError(
                f"section {section.id} lacks {len(missing)} of the {len(self.passed)} genes that the preparation was "
                f"fitted on: {', '.join(missing[:5])}{more}"
            )
        some = np.asarray(counts[:, [place[g] for g in self.passed]].sum(axis=1)).ravel() > 0
        spots = spots & some
        if not spots.any():
            raise InputError(
                f"section {section.id} has no spot with a count of the {len(self.passed)} genes; leave it out"
            )
        total = total_rate(counts[spots][:, [place[g] for g in self.retained]], self.length_bp)
        table = section.table[spots][:, list(self.genes or self.retained)].copy()
        table.obs[keys.DEPTH] = section.depth[spots]
        dropped = section.table.obs_names[~spots]
        table.uns[keys.DROPPED_SPOTS] = [*table.uns.get(keys.DROPPED_SPOTS, ()), *map(str, dropped)]
        return section.with_table(table), total

    def log1p(self, section: Section, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return transcripts per million and log2(1 + x) of them, shape ``(n_spots, n_genes)`` each (P2, P3)."""
        length = dict(zip(self.retained, self.length_bp, strict=True))
        tpm = rate_of(section.table.layers[keys.COUNTS], np.array([length[g] for g in section.genes]), total)
        return tpm, np.log2(tpm + np.float32(1))


def fill(section: Section, log1p: np.ndarray, n_hops: int) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return the filled log expression (P4), and the graph of touching spots it was filled over."""
    graph = spot_graph(section)
    return adaptive_median(log1p, graph, n_hops=n_hops), graph


def with_deltas(section: Section, means: dict[str, np.ndarray]) -> Section:
    """Return the section with deltas (P8) and noisy layers (P11) of the layers it has.

    Parameters
    ----------
    section
        On the kept genes, with its log layers and mask.
    means
        Mean of each gene over the train sections, by layer, shape ``(n_genes,)``.
    """
    table = section.table.copy()
    layers, mask = table.layers, table.layers[keys.MASK]
    for source, mean in means.items():
        layers[DELTAS_OF[source]] = (layers[source] - mean).astype(np.float32)
        table.var[MEAN_OF[source]] = mean
    for source, noisy, mean_of in NOISY[2:] if keys.C_D_LOG1P in means else NOISY[:2]:
        gap = 0.0 if mean_of is None else -means[mean_of]
        layers[noisy] = np.where(mask, layers[source], gap).astype(np.float32)
    return section.with_table(table)


def train_means(sections: Sequence[Section], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return each layer's mean of every gene over the spots of some sections, shape ``(n_genes,)`` each."""
    n_spots = sum(s.n_spots for s in sections)
    return {k: sum(s.table.layers[k].sum(axis=0, dtype=np.float64) for s in sections) / n_spots for k in layers}
