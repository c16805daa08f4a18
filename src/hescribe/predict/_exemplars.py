"""Exemplars: the train spots that look most like a spot, and what they express; the loss and the pooling of EGN."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.nearest.search import nearest
from hescribe.predict._deep import Features

MIN_POWER = 1e-8  # sum of squares; below it a gene is constant
BANK = "bank_"  # start of the names of its parts
RESIDUAL = 0.1  # weight of the attention of each gene beside the mean over tokens


@dataclass(frozen=True)
class Exemplars:
    """Train spots that others are compared with.

    Parameters
    ----------
    x
        Their features, shape ``(n_bank, n_dims)``.
    y
        Differences from the train mean, shape ``(n_bank, n_genes)``.
    donor, section, spot
        Numbers that stand for names, shape ``(n_bank,)``.
    """

    x: np.ndarray
    y: np.ndarray
    donor: np.ndarray
    section: np.ndarray
    spot: np.ndarray

    @classmethod
    def of(cls, train: Cohort, features: Features, state: dict[str, Any]) -> "Exemplars":
        """Return the kept spots of a cohort."""
        y = train.stack(keys.TARGET)
        parts = [
            (
                features.read(s, state)[s.kept],
                np.full(s.kept.sum(), _number(s.donor)),
                np.full(s.kept.sum(), _number(s.id)),
                _numbers(s)[s.kept],
            )
            for s in train
        ]
        x, donor, section, spot = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(x, (y - y.mean(axis=0)).astype(np.float32), donor, section, spot)

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "Exemplars":
        """Return what ``state`` took apart."""
        return cls(*(state[BANK + name] for name in ("x", "y", "donor", "section", "spot")))

    def state(self) -> dict[str, np.ndarray]:
        """Return the parts by name, to be saved."""
        return {BANK + name: value for name, value in vars(self).items()}

    def find(self, section: Section, x: np.ndarray, k: int) -> np.ndarray:
        """Return the k exemplars nearest to each spot of a section, shape ``(n_spots, k)``, by their number.

        A spot of a train donor is shown spots of other donors only, as a new donor will be: its own section holds
        it, and its neighbours, which a network would learn to copy. Where there is one train donor, other sections
        stand in, and other spots where there is one section. Where there are fewer than k, they are taken again.

        Raises
        ------
        InputError
            If nothing is left to compare a spot with.
        """
        allowed = np.flatnonzero(~self._own(section))
        if len(allowed):
            found = allowed[nearest(x, self.x[allowed], min(k, len(allowed)), metric="l2").rows]
        else:
            found = self._find_others(section, x, k)
        return np.asarray(found[:, np.arange(k) % found.shape[1]])

    def _find_others(self, section: Section, x: np.ndarray, k: int) -> np.ndarray:
        """Return the nearest of the other spots of the only train section."""
        if len(self.x) < 2:
            raise InputError(f"section {section.id} has nothing to be compared with; train on at least two spots")
        found = nearest(x, self.x, min(k + 1, len(self.x)), metric="l2").rows
        is_itself = self.spot[found] == _numbers(section)[:, None]
        last = np.argsort(is_itself, axis=1, kind="stable")
        return np.take_along_axis(found, last, axis=1)[:, : found.shape[1] - 1]

    def _own(self, section: Section) -> np.ndarray:
        """Return which exemplars a section must not be shown."""
        for name, values in (("donor", self.donor), ("section", self.section)):
            if len(np.unique(values)) > 1:
                return np.asarray(values == _number(section.donor if name == "donor" else section.id))
        return np.asarray(self.section == _number(section.id))


def pearson_loss(network: nn.Module, inputs: tuple[Tensor, ...], answers: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Return the squared error plus half of one minus the correlation, over the genes that vary in the batch."""
    said, (wanted, *_) = network(*inputs)[rows], answers
    mse = functional.mse_loss(said, wanted)
    a, b = said - said.mean(dim=0), wanted - wanted.mean(dim=0)
    power = (b**2).sum(dim=0)
    varies = power > MIN_POWER
    if not varies.any():
        return mse
    scale = ((a**2).sum(dim=0) * power).clamp(min=MIN_POWER).sqrt()
    r = ((a * b).sum(dim=0) / scale)[varies].mean()
    return mse + (1 - r) / 2


class ResidualAttention(nn.Module):
    """Mean over tokens of what each says of a gene, plus what those say that say most (Zhu and Wu, ICCV 2021)."""

    def __init__(self, n_dims: int, n_genes: int) -> None:
        super().__init__()
        self.norm, self.say = nn.LayerNorm(n_dims), nn.Linear(n_dims, n_genes)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the answer of each sequence ``(n, n_tokens, n_dims)``, shape ``(n, n_genes)``."""
        said = self.say(self.norm(tokens))
        pooled: Tensor = said.mean(dim=1) + RESIDUAL * (torch.softmax(said, dim=1) * said).sum(dim=1)
        return pooled


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _numbers(section: Section) -> np.ndarray:
    return np.array([_number(str(name)) for name in section.table.obs_names])
