"""Heads that learn on from those of a fitted aligner, each on some of the spots."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from hescribe.align._towers import FittedHeads, Prepared, TowerAligner, centre_sections
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.frozen_images import FrozenImages, Start
from hescribe.encode.gene.base import stack_counts
from hescribe.encode.trainable import load_trained
from hescribe.errors import InputError
from hescribe.metrics.pairs import to_unit
from hescribe.prep.scale import Scale
from hescribe.train.contrastive import Take, train_towers


def refine_heads(
    aligner: TowerAligner, fitted: FittedHeads, train: Cohort, parts: Sequence[np.ndarray], *, epochs: int, both: bool
) -> list[dict[str, Any]]:
    """Return what each copy of an aligner has learned of its part: see ``align.base.Refines``.

    Scaling and gene encoder are those of the fit. What a loss learns beside the heads starts anew.

    Raises
    ------
    InputError
        If the encoder is trained with the heads, or a part is no mask of at least 2 kept spots.
    """
    if not aligner.frozen:
        raise InputError(f"{type(aligner).__name__} with frozen=False cannot learn on; leave frozen=True")
    prepared = _prepare(fitted, train)
    take, group, states = aligner.expression_of(train, prepared.y), aligner.group_of(train), []
    donors = np.repeat([s.donor for s in train], [int(s.kept.sum()) for s in train])
    for part in parts:
        if part.shape != (len(prepared.y),) or part.sum() < 2:
            raise InputError(f"a part is a mask of {len(prepared.y)} kept spots with at least 2, got {part.sum()}")
        rows = torch.from_numpy(np.flatnonzero(part))
        network, loss, recipe = aligner.build(prepared)
        load_trained(network.image, fitted.image_weights)
        load_trained(network.expression, fitted.expression_weights)
        network.expression.requires_grad_(both)
        (weights,) = train_towers(
            network, prepared.start.x[part], partial(_take, take, rows), loss, recipe,
            snapshots=(epochs,), group=None if group is None else group[rows],
            balance=donors[part] if aligner.balance_donors else None,
        )  # fmt: skip
        network.expression.requires_grad_(True)  # noqa: FBT003 - torch's signature
        state = aligner.keep(prepared, network, weights).state()
        states.append(state if both else {**state, "expression_weights_": fitted.expression_weights})
    return states


def embed_images(aligners: Sequence[Any], section: Section) -> list[np.ndarray]:
    """Return what each of some aligners makes of the image of a section, each of length 1.

    Heads that learned on from one aligner read the same scaled features, which are computed once.
    """
    first = aligners[0]
    image = first.get_fitted().get("image_")
    images = first.images() if isinstance(first, TowerAligner) else None
    alike = all(isinstance(a, TowerAligner) and a.get_fitted()["image_"] is image for a in aligners)
    if not (alike and isinstance(images, FrozenImages)):
        return [a.embed_image(section) for a in aligners]
    x = images.read_scaled(section, image)
    return [to_unit(images.run(x, a.fitted_heads().image_weights)).astype(np.float32) for a in aligners]


def _take(take: Take, rows: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what stands for the expression of some spots of a part."""
    return take(rows[at])


def _prepare(fitted: FittedHeads, train: Cohort) -> Prepared:
    """Return both sides of the kept spots of a cohort, as fitted heads read them in training."""
    aligner, scale = fitted.aligner, fitted.scale
    x = aligner.images().features(train, fitted.image, fitted.image_weights)
    y = fitted.gene_encoder.encode(stack_counts(train), train.genes)
    if aligner.centre_expression:
        y, scale = centre_sections(y, train), Scale(np.zeros_like(scale.mean), scale.sd)
    start = Start(x, fitted.image, lambda: aligner.image_head(x.shape[1]))
    return Prepared(start, fitted.gene_encoder, fitted.scale, np.asarray(scale.apply(y), dtype=np.float32))
