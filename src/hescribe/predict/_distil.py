"""Teach image features to say what gene embeddings say: clusters of a teacher, and how sure it is of them."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional

from hescribe.train.loop import Recipe, seeded, train_network

N_HIDDEN = 512  # of the classifier and of the translation, as published
SPOTS_PER_CLUSTER = 10  # at least, on average


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How image features are adapted to a teacher.

    Parameters
    ----------
    n_clusters
        Of the teacher's embeddings; fewer where that would leave less than ten spots for each.
    rank
        Width of the change to the features.
    temperature, share
        Softness of what the teacher says, and its share of the loss; the rest is the spot's own cluster.
    epochs
        Of the classifier and of the student alike.
    recipe
        Of both trainings.
    """

    n_clusters: int
    rank: int
    temperature: float
    share: float
    epochs: int
    recipe: Recipe

    def fit(self, x: np.ndarray, teacher: np.ndarray) -> dict[str, np.ndarray]:
        """Return the weights of the adapter.

        Parameters
        ----------
        x
            Features of the train spots, shape ``(n_spots, n_dims)``.
        teacher
            Embeddings of their expression, shape ``(n_spots, n_teacher)``.
        """
        labels = torch.from_numpy(cluster(teacher, self.n_clusters, self.recipe.seed))
        of_genes = torch.from_numpy(teacher)
        n_clusters = int(labels.max()) + 1
        with seeded(self.recipe.seed):
            classifier = _classifier(teacher.shape[1], n_clusters)
            student = nn.Sequential(Adapter(x.shape[1], self.rank), _translation(x.shape[1], teacher.shape[1]))
        train_network(
            classifier,
            lambda t, c: functional.cross_entropy(classifier(t), c),
            (of_genes, labels),
            self.recipe,
            snapshots=(self.epochs,),
        )
        classifier.requires_grad_(False)  # noqa: FBT003 - torch's signature

        def loss(image: Tensor, genes: Tensor, cluster_of: Tensor) -> Tensor:
            return distillation_loss(
                classifier(student(image)), classifier(genes), cluster_of, self.temperature, self.share
            )

        data = (torch.from_numpy(x), of_genes, labels)
        (weights,) = train_network(student, loss, data, self.recipe, snapshots=(self.epochs,))
        return {name: weights[f"0.{name}.weight"].numpy() for name in ("down", "up")}


class Adapter(nn.Module):
    """Features plus a change of low rank, which starts at 0."""

    def __init__(self, n_dims: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(n_dims, rank, bias=False), nn.Linear(rank, n_dims, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted features, same shape."""
        changed: Tensor = x + self.up(self.down(x))
        return changed


def adapt(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return what a trained ``Adapter`` makes of features, shape ``(n_spots, n_dims)``."""
    return np.asarray(x + (x @ weights["down"].T) @ weights["up"].T)


def distillation_loss(student: Tensor, teacher: Tensor, cluster_of: Tensor, temperature: float, share: float) -> Tensor:
    """Return how far a student's logits are from its teacher's, and from the spots' clusters.

    ``share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * CE(student, cluster)``, means over
    the batch (Hinton et al., arXiv:1503.02531, as PEKA has it).

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> round(distillation_loss(logits, logits, torch.tensor([0]), 2.0, 1.0).item(), 6)  # it says what the teacher says
    0.0
    """
    said, wanted = (functional.log_softmax(x / temperature, dim=-1) for x in (student, teacher))
    apart = functional.kl_div(said, wanted, reduction="batchmean", log_target=True)
    return share * temperature**2 * apart + (1 - share) * functional.cross_entropy(student, cluster_of)


def cluster(teacher: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Return the cluster of every train spot by k-means, numbered without gaps, shape ``(n_spots,)`` int64."""
    k = max(min(n_clusters, len(teacher) // SPOTS_PER_CLUSTER), 1)
    _, label = kmeans2(teacher.astype(np.float64), k, minit="++", rng=seed, missing="warn")
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _classifier(n_teacher: int, n_clusters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_teacher, N_HIDDEN), nn.ReLU(), nn.Linear(N_HIDDEN, N_HIDDEN), nn.ReLU(),
        nn.Linear(N_HIDDEN, n_clusters),
    )  # fmt: skip


def _translation(n_dims: int, n_teacher: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_dims, N_HIDDEN), nn.ReLU(), nn.Linear(N_HIDDEN, n_teacher))
