"""Fit an aligner on more spots than memory holds: sections are read one at a time, pairs of vectors wait on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hescribe.align._towers import Prepared, TowerAligner
from hescribe.align.robust import RobustAligner
from hescribe.cards import DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.gene.base import encode_section
from hescribe.errors import DataAccessError, InputError
from hescribe.prep.scale import Scale

if TYPE_CHECKING:
    from hescribe.encode.frozen_images import FrozenImages
    from hescribe.train.shards import PairShards

Fitted = TypeVar("Fitted", TowerAligner, RobustAligner)
Tower = TypeVar("Tower", bound=TowerAligner)
N_SAMPLE = 20_000  # spots that the gene encoder and the scaling of images are fitted on
PAIRS = "pairs"


def fit_streamed(
    aligner: Fitted,
    sections: Callable[[], Iterable[Section]],
    folder: Path,
    *,
    cohort: str = "cohort",
    n_sample: int = N_SAMPLE,
) -> Fitted:
    """Fit an aligner with two heads on frozen features, whatever the number of spots.

    Scaling, components and gene encoder are fitted on a sample of all spots. Then both vectors of every spot are
    written to disk as float16, and the heads are trained on them. A fit that was stopped goes on after its last whole
    epoch if it is called again with the same folder; another loss or other heads find the same pairs there.

    Parameters
    ----------
    aligner
        Its ``epochs`` must be given: choosing them would need the sections many times.
    sections
        Gives the train sections, always the same ones, with image and raw counts of one panel. It is called three
        times, for each view of ``robust``, and a section is let go before the next is asked for.
    folder
        For pairs and checkpoint, in a folder of its own for each view of ``robust``: about
        ``2 * (n_image + n_expression)`` bytes a spot. Yours to remove after the fit.
    cohort
        Id of the cohort, for the record of what was trained on.
    n_sample
        Size of the sample; at least one spot a section.

    Returns
    -------
    The aligner, fitted.

    Raises
    ------
    InputError
        If the aligner trains its encoder, reads neighbours, or has no ``epochs``; if sections differ in genes, fewer
        than 2 spots are kept, or donors are to be balanced and there is one; or if the folder holds pairs of other
        sections or another encoder, or a training of more epochs.
    DataAccessError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from hescribe.align.infonce import InfoNCEAligner
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1)
    >>> aligner = fit_streamed(aligner, lambda: iter(cohort), Path(tempfile.mkdtemp()))
    >>> aligner.embed_image(cohort[0].blind()).shape
    (49, 128)
    """
    if isinstance(aligner, RobustAligner):
        return aligner.keep(
            {
                view: _fit(of_view, sections, folder / view, cohort, n_sample)
                for view, of_view in aligner.unfitted().items()
            }
        )
    return _fit(aligner, sections, folder, cohort, n_sample)


def _fit(aligner: Tower, sections: Callable[[], Iterable[Section]], folder: Path, cohort: str, n_sample: int) -> Tower:
    """Fit one aligner with two heads."""
    from hescribe.train.stream import train_towers_on  # noqa: PLC0415 - imports torch

    images, epochs = _check(aligner)
    share = n_sample / _count(sections())
    drawn, parts = _sample(images, sections(), share, aligner.seed)
    train = Cohort(parts, DatasetCard(id=cohort))  # a section for each shard
    aligner.check_donors(train)
    prepared = aligner.prepare_from(images.begin(drawn), train)
    pairs = _pairs(aligner, images, prepared, sections, folder / PAIRS)
    network, loss, recipe = aligner.build(prepared)
    weights = train_towers_on(
        network, pairs, loss, recipe, n_epochs=epochs, grouped=aligner.group_of(train) is not None,
        balance=np.array([s.donor for s in train]) if aligner.balance_donors else None,
        checkpoint=folder / f"{_training(aligner, pairs)}.safetensors",
    )  # fmt: skip
    aligner.epochs_, aligner.genes_ = epochs, train.genes
    return aligner.set_fitted(aligner.keep(prepared, network, weights).state())


def _check(aligner: TowerAligner) -> "tuple[FrozenImages, int]":
    """Return the image side and the epochs of an aligner that can be fitted like this."""
    from hescribe.encode.frozen_images import FrozenImages  # noqa: PLC0415 - imports torch

    aligner.check_params()
    name, images = type(aligner).__name__, aligner.images()
    if not isinstance(images, FrozenImages):
        raise InputError(f"{name} with frozen=False trains on patches, which are not kept as vectors; use fit")
    if type(aligner).expression_of is not TowerAligner.expression_of:
        raise InputError(f"{name} reads a spot with its neighbours, which blocks of spots do not hold; use fit")
    if not aligner.epochs:
        raise InputError(
            f"epochs must be at least 1 for a fit from disk, which does not choose them; got {aligner.epochs}"
        )
    return images, aligner.epochs


def _count(sections: Iterable[Section]) -> int:
    if (n_kept := sum(int(s.kept.sum()) for s in sections)) < 2:
        raise InputError(f"an aligner needs at least 2 train spots to tell apart, got {n_kept}")
    return n_kept


def _sample(
    images: "FrozenImages", sections: Iterable[Section], share: float, seed: int
) -> tuple[np.ndarray, tuple[Section, ...]]:
    """Return image features and tables of spots drawn from all sections."""
    rng = np.random.default_rng(seed)
    drawn, parts = [], []
    for section in sections:
        kept = np.flatnonzero(section.kept)
        n = min(max(round(share * len(kept)), 1), len(kept))
        rows = np.sort(rng.choice(kept, n, replace=False))
        if n:
            drawn.append(images.inputs.read(section)[rows])
            parts.append(replace(section, table=section.table[rows].copy(), image=None))
    if not parts:
        raise InputError("sections() gave no section when it was called again; it must give all of them at every call")
    return np.concatenate(drawn), tuple(parts)


def _pairs(
    aligner: TowerAligner,
    images: "FrozenImages",
    prepared: Prepared,
    sections: Callable[[], Iterable[Section]],
    folder: Path,
) -> "PairShards":
    """Return the pairs of all sections: those in the folder, or written anew if there are none or they are damaged."""
    from hescribe.encode.frozen_images import ImageScale  # noqa: PLC0415 - imports torch
    from hescribe.train.dist import rank, wait_for_all  # noqa: PLC0415 - imports torch
    from hescribe.train.shards import PairShards, write_pairs  # noqa: PLC0415 - imports torch

    scale = ImageScale(**prepared.start.image)

    def vectors() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for section in sections():
            if section.kept.any():
                y = encode_section(prepared.gene_encoder, section)[section.kept]
                mean = y.mean(axis=0) if aligner.centre_expression else prepared.scale.mean
                x = scale.apply(images.inputs.read(section))[section.kept]
                yield x, Scale(mean, prepared.scale.sd).apply(y)

    key = _hash(prepared.start.x.tobytes(), prepared.y.tobytes())
    if rank() == 0:
        try:
            PairShards.open(folder)
        except DataAccessError:
            write_pairs(folder, vectors(), key=key)
    wait_for_all()
    found = PairShards.open(folder)
    if found.key != key:
        raise InputError(
            f"{folder} holds pairs of other sections or another encoder; remove it, or give another folder"
        )
    return found


def _training(aligner: TowerAligner, pairs: "PairShards") -> str:
    """Return a name for a training: the same for the same parameters and pairs, whatever the number of epochs."""
    params = {name: value for name, value in aligner.get_params().items() if name != "epochs"}
    return _hash(type(aligner).__name__.encode(), json.dumps(params, sort_keys=True).encode(), pairs.key.encode())


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"/".join(parts)).hexdigest()[:16]
