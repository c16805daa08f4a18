"""What a network says of a slide and how wrong it is: of classes, of grades and bins of time, and of risk alone.

Grades are learned as time in bins is, by the chance of stopping at each step given that it was reached (Tutz, British
Journal of Mathematical and Statistical Psychology 1991, doi:10.1111/j.2044-8317.1991.tb00951.x; for time Zadeh and
Schmid, IEEE TPAMI 2021, doi:10.1109/TPAMI.2020.2979450). Risk alone is learned by Cox's partial likelihood over the
slides of a batch, ties after Breslow.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hescribe.errors import InputError
from hescribe.slide.targets import Classes, SurvivalLoss, Target


@dataclass(frozen=True)
class Outcome:
    """How the outputs of a network are read.

    Parameters
    ----------
    kind
        ``"class"``: a logit each; ``"grade"``: the log odds of stopping at each grade but the last; ``"nll"``: the
        same of each bin of time; ``"cox"``: log risk.
    n_outputs
        Numbers that the network gives.
    edges
        Between bins of time, of ``"nll"`` alone.
    """

    kind: str
    n_outputs: int
    edges: tuple[float, ...] = ()

    @classmethod
    def of(cls, target: Target, *, survival_loss: SurvivalLoss, n_bins: int) -> "Outcome":
        """Return the outcome that suits a train target; bins have the same number of events each.

        Raises
        ------
        InputError
            If the events of the train slides do not fill the bins.
        """
        if isinstance(target, Classes):
            n = len(target.names)
            return cls("grade", n - 1) if target.ordered else cls("class", n)
        if survival_loss == "cox":
            return cls("cox", 1)
        times = target.time[target.event]
        edges = np.quantile(times, np.linspace(0, 1, n_bins + 1)[1:-1])
        if len(np.unique(edges)) < n_bins - 1 or len(times) < n_bins:
            raise InputError(
                f"{len(times)} events at {len(np.unique(times))} times do not fill {n_bins} bins of time; give fewer "
                "n_bins, or survival_loss='cox'"
            )
        return cls("nll", n_bins, tuple(edges.tolist()))

    def encode(self, target: Target) -> tuple[Tensor, Tensor]:
        """Return of each slide what the loss compares with, two tensors of shape ``(n_slides,)``.

        Class and weight (each class weighs the same); or step and whether it stopped there; or time and event.
        """
        if isinstance(target, Classes):
            codes = torch.from_numpy(target.codes)
            if self.kind == "class":
                count = torch.bincount(codes, minlength=len(target.names)).clamp(min=1)
                return codes, (len(codes) / (len(target.names) * count))[codes].float()
            return codes.clamp(max=self.n_outputs - 1), codes < self.n_outputs
        if self.kind == "cox":
            return torch.from_numpy(target.time), torch.from_numpy(target.event)
        step = np.searchsorted(np.array(self.edges), target.time, side="right")
        return torch.from_numpy(step), torch.from_numpy(target.event)

    def loss(self, outputs: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of a batch: outputs ``(n, n_outputs)``, and what ``encode`` gave of these slides."""
        if self.kind == "class":
            return (second * functional.cross_entropy(outputs, first, reduction="none")).mean()
        if self.kind == "cox":
            return _cox_loss(outputs[:, 0], first, second)
        going_on = functional.logsigmoid(-outputs).cumsum(dim=1)  # log of the chance to be past each step
        here = going_on.gather(1, first[:, None])[:, 0]
        stopping = functional.logsigmoid(outputs).gather(1, first[:, None])[:, 0]
        before = here - functional.logsigmoid(-outputs).gather(1, first[:, None])[:, 0]
        return -torch.where(second, before + stopping, here).mean()

    def to_prediction(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities of the classes, or risk as ``(n, 1)``, of outputs ``(n, n_outputs)``.

        Examples
        --------
        >>> Outcome("grade", 2).to_prediction(np.array([[0.0, 0.0]])).tolist()  # 1/2 stop, then 1/2 of the rest
        [[0.5, 0.25, 0.25]]
        """
        x = np.asarray(outputs, dtype=np.float64)
        if self.kind == "cox":
            return x
        if self.kind == "class":
            odds = np.exp(x - x.max(axis=1, keepdims=True))
            shares: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
            return shares
        stop = 1 / (1 + np.exp(-x))
        past = np.cumprod(1 - stop, axis=1)
        if self.kind == "nll":
            return -past.sum(axis=1, keepdims=True)
        return np.hstack([np.hstack([np.ones((len(x), 1)), past[:, :-1]]) * stop, past[:, -1:]])


def _cox_loss(risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Return the negative partial log likelihood for each event of a batch; 0 without one."""
    at_risk = time[None, :] >= time[:, None]  # (asking, others)
    total = torch.logsumexp(risk[None, :].masked_fill(~at_risk, -torch.inf), dim=1)
    return (event * (total - risk)).sum() / event.sum().clamp(min=1)
