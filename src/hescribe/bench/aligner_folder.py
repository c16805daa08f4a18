"""A fitted aligner on disk, and as an encoder: ``aligner.json`` for people, ``weights.safetensors`` for arrays."""

import hashlib
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from hescribe import __version__
from hescribe.align.base import Aligner, ChecksWeights, aligners
from hescribe.bench.aligned import score_aligner
from hescribe.bench.components import create_component
from hescribe.bench.model_folder import (
    ALIGNER_INDEX,
    INDEX,
    WEIGHTS,
    check_target,
    join_fitted,
    read_parts,
    split_fitted,
    write_parts,
)
from hescribe.bench.model_names import encoder_name
from hescribe.bench.protocols import Protocol
from hescribe.bench.task import PredictionTask
from hescribe.cards import EncoderCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.metrics.stats import DonorMean, donor_mean
from hescribe.progress import track

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AlignerInfo:
    """What a fitted aligner says of itself.

    Parameters
    ----------
    method, params
        Registry name and hyper-parameters.
    genes
        Panel that it was fitted on.
    encoder
        Card of the image encoder that it reads; None if it reads none by name.
    n_dims
        Length of an embedding.
    cohort, donors, n_sections, n_spots, data_hash, protocol
        What it was fitted on.
    auc, auc_without_depth
        Retrieval of held-out donors within their sections, both directions: .5 is chance. None with a single donor.
    version
        Of the package.
    """

    method: str
    params: dict[str, Any]
    genes: tuple[str, ...]
    encoder: EncoderCard | None
    n_dims: int
    cohort: str
    donors: tuple[str, ...]
    n_sections: int
    n_spots: int
    data_hash: str
    protocol: str
    auc: DonorMean | None
    auc_without_depth: DonorMean | None
    version: str = __version__


@dataclass(frozen=True)
class FittedAligner:
    """An aligner that is ready to embed, and its info."""

    aligner: Aligner
    info: AlignerInfo


@dataclass(frozen=True)
class AlignerEncoder:
    """The image side of a fitted aligner, as predictors read an encoder.

    Parameters
    ----------
    fitted
        The aligner.
    card
        Named after its folder; trained on what its own encoder was trained on, and on its train cohort.
    """

    fitted: FittedAligner
    card: EncoderCard

    @property
    def name(self) -> str:
        """Name of the aligner."""
        return self.fitted.info.method

    def embed_section(self, section: Section) -> np.ndarray:
        """Return one vector of length 1 a spot, shape ``(n_spots, card.n_dims)`` float32."""
        return self.fitted.aligner.embed_image(section.blind())

    def get_params(self) -> dict[str, Any]:
        """Return the hyper-parameters of the aligner."""
        return self.fitted.info.params


def fit_aligner(
    aligner: Aligner, cohort: Cohort, protocol: Protocol, *, genes: tuple[str, ...] | None = None
) -> FittedAligner:
    """Fit an aligner on all donors, and score it on each of them by a fit without it.

    Parameters
    ----------
    aligner
        Unfitted.
    cohort
        Sections without an image are left out.
    protocol
        Fixes spots and gene choice.
    genes
        Panel in place of the protocol's.

    Raises
    ------
    InputError
        If no section has an image and enough spots, or see the aligner.
    PanelError
        If a gene that is given was not measured in every section.
    LeakageError
        If an encoder was trained on the cohort, on whose donors it would be scored.
    """
    task = PredictionTask(cohort, protocol)
    genes = genes or task.choose_genes(task.prepared)
    train = task.on_panel(task.prepared, genes)
    scores = _score_held_out(task, aligner, genes) if len(train.donors) > 1 else {}
    fitted: Any = aligner.with_params().fit(train)  # type: ignore[attr-defined]
    name = encoder_name(aligner)
    info = AlignerInfo(
        method=aligner.name, params=fitted.get_params(), genes=genes,
        encoder=None if name is None else create_encoder(name).card,
        n_dims=fitted.embed_image(train[0].blind()).shape[1], cohort=cohort.card.id, donors=train.donors,
        n_sections=len(train), n_spots=int(sum(s.kept.sum() for s in train)), data_hash=task.data_hash,
        protocol=protocol.name, auc=scores.get(False), auc_without_depth=scores.get(True),
    )  # fmt: skip
    return FittedAligner(fitted, info)


def _score_held_out(task: PredictionTask, aligner: Aligner, genes: tuple[str, ...]) -> dict[bool, DonorMean]:
    """Return the AUC within sections of held-out donors, by whether depth was taken out."""
    rows = []
    for fold in track(list(task.folds(panel=genes)), "scoring on held-out donors"):
        rows += score_aligner(aligner, fold, pools=("within_section",), sizes=(None,))
    of_auc = [r for r in rows if r.metric == "auc"]
    return {w: donor_mean([(r.donor, r.value) for r in of_auc if r.without_depth is w]) for w in (False, True)}


def write_aligner(path: Path, fitted: FittedAligner, *, overwrite: bool = False) -> None:
    """Write the folder of an aligner, whole or not at all.

    Raises
    ------
    DataAccessError
        If the folder exists and is not to be overwritten, or cannot be written.
    """
    check_target(path, overwrite=overwrite, index=ALIGNER_INDEX)
    arrays, plain = split_fitted(fitted.aligner.get_fitted())  # type: ignore[attr-defined]
    write_parts(path, ALIGNER_INDEX, {"schema_version": SCHEMA_VERSION, **asdict(fitted.info), "fitted": plain}, arrays)


def read_aligner(path: Path) -> FittedAligner:
    """Return the aligner of a folder.

    Raises
    ------
    DataAccessError
        If there is none at ``path``.
    FormatError
        If a file is damaged, of another version of the format, or holds the weights of other heads.
    """
    if (path / INDEX).exists():
        raise DataAccessError(f"{path} holds a predictor, which embeds nothing; give the folder of an aligner")
    content, arrays = read_parts(path, ALIGNER_INDEX)
    if content.pop("schema_version", 0) != SCHEMA_VERSION:
        raise FormatError(f"{path}/{ALIGNER_INDEX} is not of format version {SCHEMA_VERSION}; fit the aligner again")
    fitted = content.pop("fitted", None)
    known = {f.name for f in fields(AlignerInfo)}
    if not isinstance(fitted, dict) or known != content.keys():
        wrong = ", ".join(sorted(known ^ content.keys()) or ["fitted"])
        raise FormatError(f"{path}/{ALIGNER_INDEX} has missing or unknown entries ({wrong}); fit the aligner again")
    try:
        info = TypeAdapter(AlignerInfo).validate_python(content)
        aligner = create_component(aligners, info.method, info.params)
        aligner.set_fitted(join_fitted(arrays, fitted))
    except (ValidationError, InputError) as error:
        reason = "; ".join(str(error).splitlines()[:3])
        raise FormatError(f"{path}/{ALIGNER_INDEX} describes no aligner of this version: {reason}") from error
    if isinstance(aligner, ChecksWeights):
        aligner.check_weights()
    name = encoder_name(aligner)
    if name is not None and create_encoder(name).card != info.encoder:
        raise FormatError(f"{path} was fitted on another version of encoder {name} than the one here; fit it again")
    return FittedAligner(aligner, info)


def read_encoder(path: Path) -> AlignerEncoder:
    """Return the aligner of a folder as an encoder; read once as long as its weights stay the same.

    Raises
    ------
    FormatError
        If a file is damaged, or of another version of the format.
    """
    return _read_encoder(path.resolve(), (path / WEIGHTS).stat().st_mtime_ns if (path / WEIGHTS).exists() else 0)


@cache
def _read_encoder(path: Path, changed: int) -> AlignerEncoder:
    del changed  # part of the key
    fitted = read_aligner(path)
    info, base = fitted.info, fitted.info.encoder
    own = EncoderCard(name="", revision="", px=1, n_dims=1, licence="unknown", paper="none")
    card = replace(
        base or own, name=f"{info.method} in {path}", revision=_revision(path), n_dims=info.n_dims,
        trained_on=(*(base.trained_on if base else ()), info.cohort),
    )  # fmt: skip
    return AlignerEncoder(fitted, card)


def _revision(path: Path) -> str:
    return hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()[:16]
