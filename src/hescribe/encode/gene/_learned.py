"""How encoders that are networks fitted on a panel are trained, kept and asked."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.encode.gene._panel import PanelScale
from hescribe.encode.gene.base import Coverage, donors_of
from hescribe.errors import FormatError
from hescribe.params import Params

if TYPE_CHECKING:
    from hescribe.encode.gene._panel_networks import PanelNetwork

CHUNK = 4096  # spots encoded at once
LIMITS = (("n_dims", 1), ("n_steps", 1), ("lr", 0), ("batch_size", 2), ("seed", 0))


@dataclass(kw_only=True)
class LearnedEncoder(Params):
    """A network on the log counts of a panel, trained on the train spots alone.

    Parameters
    ----------
    n_dims
        Length of an embedding.
    n_steps
        Batches to learn from: a cost that does not grow with the cohort.
    lr, weight_decay, batch_size, seed
        Of the training.
    """

    keep_depth: ClassVar[bool]
    n_dims: int = 128
    n_steps: int = 1000
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 128
    seed: int = 0

    @abstractmethod
    def build(self, n_genes: int, n_sections: int) -> "PanelNetwork":
        """Return the untrained network."""

    def fit(self, train: Cohort) -> Self:
        """Train the network on the raw counts of the kept spots.

        Raises
        ------
        InputError
            If a parameter is out of its limits.
        TrainingError
            If the loss is not finite.
        """
        from hescribe.encode.gene._panel_networks import train_panel  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import Recipe, seeded  # noqa: PLC0415 - imports torch

        for name, low in LIMITS:
            self.check_between(name, low)
        scale, counts = PanelScale.fit(train, keep_depth=self.keep_depth)
        section = np.repeat(np.arange(len(train)), [int(s.kept.sum()) for s in train])
        with seeded(self.seed):
            network = self.build(len(scale.genes), len(train))
        recipe = Recipe(batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed)
        self.weights_ = train_panel(network, scale.transform, counts, section, recipe, n_steps=self.n_steps)
        self.genes_, self.total_, self.mean_ = scale.genes, scale.total, scale.mean
        self.donors_, self.n_sections_ = donors_of(train), len(train)
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel were fitted: see ``PanelScale.coverage``."""
        return self._scale().coverage(genes, self.name)  # type: ignore[attr-defined]

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the embeddings, shape ``(n_spots, n_dims)`` float32."""
        import torch  # noqa: PLC0415 - heavy

        x = self._scale().apply(counts, genes, self.name)  # type: ignore[attr-defined]
        network = self.restore()
        with torch.inference_mode():
            parts = [network.embed(part).numpy() for part in torch.from_numpy(x).split(CHUNK)]
        return np.concatenate(parts)

    def restore(self) -> "PanelNetwork":
        """Return the trained network in evaluation mode.

        Raises
        ------
        NotFittedError
            If there is none.
        FormatError
            If the weights are not exactly its own.
        """
        import torch  # noqa: PLC0415 - heavy

        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        self.check_fitted()
        with seeded(self.seed):  # of weights that are replaced: the caller's random numbers stay as they were
            network = self.build(len(self.genes_), self.n_sections_)
        try:
            network.load_state_dict({k: torch.from_numpy(v) for k, v in self.weights_.items()}, strict=True)
        except RuntimeError as error:
            raise FormatError(f"the weights are not those of this network: {error}") from error
        network.eval()
        return network

    def _scale(self) -> PanelScale:
        self.check_fitted()
        return PanelScale(self.genes_, self.total_, self.mean_)
