"""Spatial domains: clusters of predicted expression, beside a pathologist's labels and beside simpler inputs.

Components, k-means and agreement as in Min et al., Briefings in Bioinformatics 2024, bbae551, supplement: nine
components, as many clusters as labels, spots without a label left out. We differ: every input gets the same settings,
several seeds are run, and predictions stand beside measured expression, image features, colour, place and noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.prep.graph import spot_graph

N_DIMS = 9  # components that are clustered
N_STARTS = 10  # of k-means
UNLABELLED = ("", "undetermined")  # words for a spot that the pathologist left open
NOISE = "noise"
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
    _check(values, n_domains)
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

    labelled, truth = _labelled(section)
    n_domains = len(set(truth))
    scores = []
    for name, smooth in [(n, s) for n in (*inputs, NOISE) for s in (False, True)]:
        reduce = partial(_reduce, section, name, inputs.get(name), smooth=smooth)
        x = None if name == NOISE else reduce()
        found = [_cluster(reduce(seed=s) if x is None else x, n_domains, s) for s in seeds]
        agreement = [(adjusted_rand_score(truth, f), normalized_mutual_info_score(truth, f)) for f in found]
        (ari, nmi), (ari_sd, nmi_sd) = np.mean(agreement, axis=0), np.std(agreement, axis=0)
        scores.append(
            DomainScore(
                section=section.id, donor=section.donor, source=name, smooth=smooth, n_spots=int(labelled.sum()),
                n_domains=n_domains, ari=float(ari), ari_sd=float(ari_sd), nmi=float(nmi), nmi_sd=float(nmi_sd),
            )
        )  # fmt: skip
    return scores


def section_domains(
    section: Section, name: str, values: np.ndarray | None, *, smooth: bool = False, seed: int = 0
) -> np.ndarray:
    """Return the domain of each spot of a labelled section, -1 where there is no label; as many as there are labels.

    Parameters
    ----------
    section
        With labels on at least two regions.
    name, values
        An input as in ``score_domains``; None for noise.
    smooth
        Whether each spot is averaged with the labelled spots that touch it.
    seed
        Of k-means, and of the noise.

    Raises
    ------
    InputError
        As ``score_domains`` does.
    """
    labelled, truth = _labelled(section)
    found = np.full(section.n_spots, -1)
    found[labelled] = _cluster(_reduce(section, name, values, smooth=smooth, seed=seed), len(set(truth)), seed)
    return found


def _reduce(section: Section, name: str, values: np.ndarray | None, *, smooth: bool, seed: int = 0) -> np.ndarray:
    """Return the components of an input at the labelled spots; those of noise if it is None."""
    labelled, truth = _labelled(section)
    if values is None:
        x = np.random.default_rng(seed).normal(size=(len(truth), N_DIMS))
    elif len(values) != section.n_spots:
        raise InputError(f"{name} has {len(values)} rows, expected {section.n_spots}: one for every spot")
    else:
        x = values[labelled].astype(np.float64)
        x = x if name in IN_ONE_UNIT else (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    _check(x, len(set(truth)))
    return _components(_averaging(section, labelled) @ x if smooth else x)


def _labelled(section: Section) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask of the spots with a label, and their labels."""
    labels = read_labels(section)
    if labels is None:
        raise InputError(f"section {section.id} has no labels of two regions to compare domains with")
    return labels != "", labels[labels != ""]


def _averaging(section: Section, labelled: np.ndarray) -> sparse.csr_matrix:
    """Return the matrix that averages each labelled spot with those that touch it."""
    near = (spot_graph(section)[labelled][:, labelled] > 0).astype(np.float64) + sparse.identity(int(labelled.sum()))
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near)


def _check(values: np.ndarray, n_domains: int) -> None:
    if not 1 < n_domains <= len(values):
        raise InputError(f"{len(values)} spots cannot be told apart into {n_domains} domains; give 2 to {len(values)}")
    if not np.isfinite(values).all():
        raise InputError("domains need a value for every spot and column; some are not finite")


def _components(values: np.ndarray) -> np.ndarray:
    """Return the scores on the first principal components, shape ``(n_spots, up to 9)``, from the smaller product."""
    x = values.astype(np.float64) - values.mean(axis=0)
    if x.shape[0] <= x.shape[1]:
        size, directions = np.linalg.eigh(x @ x.T)
        return directions[:, -N_DIMS:] * np.sqrt(np.maximum(size[-N_DIMS:], 0.0))
    return x @ np.linalg.eigh(x.T @ x)[1][:, -N_DIMS:]


def _cluster(x: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - 1 s
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    if len(np.unique(x.round(9), axis=0)) < n_domains:  # k-means warns and gives fewer
        return np.unique(x.round(9), axis=0, return_inverse=True)[1].ravel()
    with threadpool_limits(1):
        return KMeans(n_domains, n_init=N_STARTS, random_state=seed).fit_predict(x)
