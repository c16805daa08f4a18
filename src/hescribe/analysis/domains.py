"""Spatial domains: clusters of predicted expression, beside a pathologist's labels and beside simpler inputs.

Components, k-means and agreement as in Min et al., Briefings in Bioinformatics 2024, bbae551, supplement: nine
components, as many clusters as labels, spots without a label left out. We differ: every input gets the same settings,
several seeds are run, and predictions stand beside measured expression, image features, colour, place and noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.prep.graph import spot_graph

N_DIMS = 9  # components that are clustered
N_STARTS = 10  # of k-means
UNLABELLED = ("", "undetermined")  # words for a spot that the pathologist left open
IN_ONE_UNIT = ("predicted", "measured")  # inputs whose columns are not brought to one spread


@dataclass(frozen=True, kw_only=True)
class DomainScore:
    """How far clusters of one input agree with a section's labels.

    Parameters
    ----------
    section, donor
        What was clustered.
    source
        Input: ``"predicted"``, ``"measured"``, ``"noise"``, ...
    smooth
        Whether each spot was averaged with the spots that touch it.
    n_spots, n_domains
        Spots with a label, and labels among them.
    ari, ari_sd, nmi, nmi_sd
        Adjusted Rand index (0 by chance, 1 at best) and normalised mutual information (above 0 by chance: compare
        with noise), mean and spread over seeds.
    """

    section: str
    donor: str
    source: str
    smooth: bool
    n_spots: int
    n_domains: int
    ari: float
    ari_sd: float
    nmi: float
    nmi_sd: float


def read_labels(section: Section) -> np.ndarray | None:
    """Return the pathologist's label of each spot, empty where there is none; None if fewer than two labels are used.

    Only kept spots have a label.
    """
    if keys.REGION not in section.table.obs:
        return None
    column = section.table.obs[keys.REGION]
    labels = column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    labels = np.where(np.isin(labels, UNLABELLED) | ~section.kept, "", labels)
    return labels if len(set(labels) - {""}) > 1 else None


def find_domains(values: np.ndarray, n_domains: int, *, seed: int = 0) -> np.ndarray:
    """Return the cluster of each spot: k-means on the first nine principal components.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_columns)``.
    n_domains
        Clusters.
    seed
        Of k-means.

    Raises
    ------
    InputError
        If there are fewer spots than clusters, or a value is not finite.

    Examples
    --------
    >>> values = np.repeat([[0.0, 0.0], [9.0, 9.0]], 5, axis=0)
    >>> len(set(find_domains(values, 2)[:5])), len(set(find_domains(values, 2)))
    (1, 2)
    """
    if not 1 < n_domains <= len(values):
        raise InputError(f"{len(values)} spots cannot be told apart into {n_domains} domains; give 2 to {len(values)}")
    if not np.isfinite(values).all():
        raise InputError("domains need a value for every spot and column; some are not finite")
    return _cluster(_components(values), n_domains, seed)


def score_domains(
    section: Section, inputs: Mapping[str, np.ndarray], *, seeds: Sequence[int] = range(5)
) -> list[DomainScore]:
    """Return the agreement of each input's domains with the section's labels, plain and smoothed.

    Noise of nine columns is always one of the inputs.

    Parameters
    ----------
    section
        With labels on at least two regions: see ``read_labels``.
    inputs
        By name, shape ``(n_spots, n_columns)``; rows of spots without a label are not looked at. All but expression
        is brought to one spread, column by column.
    seeds
        Of k-means, and of the noise.

    Raises
    ------
    InputError
        If the section has no labels, or an input has another number of spots.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415 - 1 s

    labels = read_labels(section)
    if labels is None:
        raise InputError(f"section {section.id} has no labels of two regions to compare domains with")
    labelled = labels != ""
    truth, n_domains = labels[labelled], len(set(labels[labelled]))
    near = _averaging(section, labelled)
    scores = []
    for name, values in {**inputs, "noise": None}.items():
        if values is not None and len(values) != section.n_spots:
            raise InputError(f"{name} has {len(values)} rows, expected {section.n_spots}: one for every spot")
        for smooth in (False, True):
            found = []
            for seed in seeds:
                x = _prepare(name, values, labelled, seed)
                label = find_domains(near @ x if smooth else x, n_domains, seed=seed)
                found.append((adjusted_rand_score(truth, label), normalized_mutual_info_score(truth, label)))
            (ari, nmi), (ari_sd, nmi_sd) = np.mean(found, axis=0), np.std(found, axis=0)
            scores.append(
                DomainScore(
                    section=section.id, donor=section.donor, source=name, smooth=smooth, n_spots=int(labelled.sum()),
                    n_domains=n_domains, ari=float(ari), ari_sd=float(ari_sd), nmi=float(nmi), nmi_sd=float(nmi_sd),
                )
            )  # fmt: skip
    return scores


def _prepare(name: str, values: np.ndarray | None, labelled: np.ndarray, seed: int) -> np.ndarray:
    if values is None:
        return np.random.default_rng(seed).normal(size=(int(labelled.sum()), N_DIMS))
    x = values[labelled].astype(np.float64)
    return x if name in IN_ONE_UNIT else (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)


def _averaging(section: Section, labelled: np.ndarray) -> sparse.csr_matrix:
    """Return the matrix that averages each labelled spot with those that touch it."""
    near = (spot_graph(section)[labelled][:, labelled] > 0).astype(np.float64) + sparse.identity(int(labelled.sum()))
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near)


def _components(values: np.ndarray) -> np.ndarray:
    """Return the scores on the first principal components, shape ``(n_spots, up to 9)``."""
    centred = values.astype(np.float64) - values.mean(axis=0)
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    return (u * size)[:, :N_DIMS]


def _cluster(x: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - 1 s
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    if len(np.unique(x.round(9), axis=0)) < n_domains:  # k-means warns and gives fewer
        return np.unique(x.round(9), axis=0, return_inverse=True)[1].ravel()
    with threadpool_limits(1):
        return KMeans(n_domains, n_init=N_STARTS, random_state=seed).fit_predict(x)
