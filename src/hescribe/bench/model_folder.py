"""A fitted model on disk: ``model.json`` for people and programs, ``weights.safetensors`` for arrays."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hescribe import __version__, keys
from hescribe._support import write_whole_folder
from hescribe.bench.choice import Choice
from hescribe.bench.components import create_component
from hescribe.bench.interval import Interval, IntervalInfo
from hescribe.bench.model_names import encoder_card
from hescribe.bench.scores import Score
from hescribe.bench.trust import Trust
from hescribe.data.duplicates import Mark
from hescribe.data.untrusted import parse_json
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.metrics.calibration import check_level
from hescribe.predict.base import Predictor, predictors
from hescribe.prep.looks import Looks

SCHEMA_VERSION = 4
# What a folder of an older format lacks, by the format that brought it: the tissue of the training sections; what
# the scores on held-out donors are read beside, and why the method was picked; the intervals, and the panel of a model
# that was given more genes.
SINCE: dict[int, dict[str, Any]] = {
    2: {"tissue": []}, 3: {"held_out": [], "choice": None}, 4: {"interval": None, "chosen_on": [], "image_mpp": None},
}  # fmt: skip
INDEX, ALIGNER_INDEX, WEIGHTS = "model.json", "aligner.json", "weights.safetensors"
CHECKSUM = "weights_sha256"  # of the weights, in the index
INTERVAL, LOOKS = "interval/", "looks/"  # before the names of their arrays


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a fitted model says of itself.

    Parameters
    ----------
    method, params
        Registry name and hyper-parameters.
    genes
        In the order of the predicted columns.
    encoder
        Card of the image encoder; None if the method reads no image.
    cohort, synthetic, licence, citation
        Of the training data.
    donors, n_sections, n_spots, data_hash
        What it was trained on.
    organs
        Of the training sections.
    pitch_um
        Distance of the training spots: the grid that a bare image is predicted on.
    protocol
        Under which the scores were taken.
    scores
        For each gene: score, ceiling, trust class; only the last, ``untested``, with a single donor.
    score
        Mean cross-validated correlation over donors; None with a single donor.
    tissue
        What the training sections are known again by under any name; empty in folders of format 1.
    held_out
        Scores of the model (under the name ``"model"``) and of the controls on held-out donors, by metric; empty with a
        single donor and in folders of older formats.
    chosen_on
        The protocol's panel, where genes were added to it: see ``panel``.
    choice
        Why this method was picked among others; None if it was named by the user.
    interval
        What stands behind the intervals of its predictions; None without them.
    image_mpp
        Smallest and largest um per pixel of the training images; None in folders of older formats.
    version
        Of the package.
    """

    method: str
    params: dict[str, Any]
    genes: tuple[str, ...]
    encoder: dict[str, Any] | None
    cohort: str
    synthetic: bool
    licence: str
    citation: str
    donors: tuple[str, ...]
    organs: tuple[str, ...]
    n_sections: int
    n_spots: int
    data_hash: str
    pitch_um: float
    protocol: str
    scores: dict[str, dict[str, Any]]
    score: float | None
    tissue: tuple[Mark, ...] = ()
    held_out: tuple[Score, ...] = ()
    chosen_on: tuple[str, ...] = ()
    choice: Choice | None = None
    interval: IntervalInfo | None = None
    image_mpp: tuple[float, float] | None = None
    version: str = __version__

    @property
    def panel(self) -> tuple[str, ...]:
        """Genes on which parameters were chosen, spots hashed, and the mean score taken; all, if none was added."""
        return self.chosen_on or self.genes

    @property
    def undefined(self) -> str:
        """What the mean score leaves out, as a sentence; empty if nothing, or if there is no score."""
        own = next((s for s in self.held_out if (s.model, s.metric) == ("model", "pearson")), None)
        if own is None or not own.n_undefined or not own.n_defined:
            return ""
        return (
            f"{own.n_undefined} of {own.n_defined + own.n_undefined} correlations (genes by section) are undefined, "
            "for the gene or its prediction does not vary there; the mean score is that of the rest"
        )


@dataclass(frozen=True)
class FittedModel:
    """A predictor that is ready to predict, its info, and if there are any its intervals and the training's looks."""

    predictor: Predictor
    info: ModelInfo
    interval: Interval | None = None
    looks: Looks | None = None


def check_target(path: Path, *, overwrite: bool, index: str = INDEX) -> None:
    """Refuse a target that exists, before an hour is spent on what could not be written.

    Raises
    ------
    DataAccessError
        If it exists and is not to be overwritten, or is no folder of a model of this kind.
    """
    if path.exists() and not overwrite:
        raise DataAccessError(f"{path} exists; choose another name, or give --overwrite")
    if path.exists() and not (path / index).exists():
        raise DataAccessError(f"{path} is no model folder and is not overwritten; choose another name")


def write_model(
    path: Path, model: FittedModel, *, overwrite: bool = False, also: Callable[[Path], object] | None = None
) -> None:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    path, model
        Folder and what it holds.
    overwrite
        Whether a model at ``path`` is replaced.
    also
        Writes more into the folder, such as its cards; a model is never there without it.

    Raises
    ------
    DataAccessError
        If the folder exists and is not to be overwritten, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    arrays, plain = split_fitted(model.predictor.get_fitted())  # type: ignore[attr-defined]
    if model.interval is not None:
        arrays |= {f"{INTERVAL}below": model.interval.below, f"{INTERVAL}above": model.interval.above}
    if model.looks is not None:
        arrays |= {f"{LOOKS}{name}": value for name, value in vars(model.looks).items()}
    content = {"schema_version": SCHEMA_VERSION, **asdict(model.info), "fitted": plain}
    write_parts(path, INDEX, content, arrays, also=also)


def write_parts(
    path: Path,
    index: str,
    content: dict[str, Any],
    arrays: dict[str, np.ndarray],
    *,
    also: Callable[[Path], object] | None = None,
) -> None:
    """Write a folder of two files, what is plain in ``index`` and the arrays, whole or not at all; see ``write_model``.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    with write_whole_folder(path) as tmp:
        try:
            save_file(arrays, tmp / WEIGHTS)
            (tmp / WEIGHTS).chmod(0o644)  # it comes readable by its owner alone, unlike the rest
        except SafetensorError as error:  # an OSError in other clothes
            raise DataAccessError(f"{path} cannot be written: {error}") from error
        (tmp / index).write_text(json.dumps({**content, CHECKSUM: _checksum(tmp / WEIGHTS)}, indent=1))
        if also is not None:
            also(tmp)


def read_parts(path: Path, index: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what ``write_parts`` wrote.

    Raises
    ------
    DataAccessError
        If a file is missing.
    FormatError
        If one is damaged.
    """
    for name in (index, WEIGHTS):
        if not (path / name).exists():
            raise DataAccessError(f"{path} is no model folder: {name} is missing")
    try:
        content, arrays = parse_json((path / index).read_bytes(), index), load_file(path / WEIGHTS)
        checksum = _checksum(path / WEIGHTS)
    except (ValueError, SafetensorError, OSError) as error:  # FormatError is an OSError
        raise FormatError(f"{path} is damaged ({error}); fit the model again") from error
    content = content if isinstance(content, dict) else {}
    if content.pop(CHECKSUM, checksum) != checksum:  # folders of older versions state none
        raise FormatError(f"{path / WEIGHTS} is not the file that {index} was written with; fit the model again")
    return content, arrays


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model(path: Path) -> FittedModel:
    """Return the model of a folder.

    Raises
    ------
    DataAccessError
        If there is no model at ``path``.
    FormatError
        If a file is damaged, or of another version of the format.
    """
    if (path / ALIGNER_INDEX).exists():
        raise DataAccessError(
            f"{path} holds an aligner, which predicts no expression; use it as an encoder: hescribe embed --encoder"
        )
    content, arrays = read_parts(path, INDEX)
    version = content.pop("schema_version", 0)
    if version not in range(1, SCHEMA_VERSION + 1):
        raise FormatError(f"{path}/model.json is not of format version {SCHEMA_VERSION}; fit the model again")
    for since, entries in SINCE.items():
        if version < since:
            content = {**entries, **content}
    fitted = content.pop("fitted", None)
    known = {f.name for f in fields(ModelInfo)}
    if not isinstance(fitted, dict) or known != content.keys():
        wrong = ", ".join(sorted(known ^ content.keys()) or ["fitted"])
        raise FormatError(f"{path}/model.json has missing or unknown entries ({wrong}); fit the model again")
    try:
        info = _with_every_gene(TypeAdapter(ModelInfo).validate_json(json.dumps(content), strict=True))
        interval, looks = _take_interval(arrays, info), _take_looks(arrays)
        predictor: Any = create_component(predictors, info.method, info.params)
        predictor.set_fitted(join_fitted(arrays, fitted))
    except (ValidationError, InputError) as error:
        reason = "; ".join(str(error).splitlines()[:3])
        raise FormatError(f"{path}/model.json describes no model of this version: {reason}") from error
    if tuple(predictor.get_fitted().get("genes_", info.genes)) != info.genes:
        raise FormatError(f"{path}: model.json and the fitted state name different genes; fit the model again")
    _check_encoder(path, predictor, info)
    return FittedModel(predictor, info, interval, looks)


def _with_every_gene(info: ModelInfo) -> ModelInfo:
    """Return the info with a trust class for every gene: ``untested`` where older formats held no scores.

    Raises
    ------
    InputError
        If some genes have none, or one that does not exist.
    """
    scores = info.scores or {gene: {keys.TRUST: "untested"} for gene in info.genes}
    if scores.keys() != set(info.genes):
        raise InputError(f"scores are of other genes than the model's ({min(scores.keys() ^ set(info.genes))})")
    for gene, values in scores.items():
        if values.get(keys.TRUST) not in get_args(Trust):
            raise InputError(f"{gene} has trust class {values.get(keys.TRUST)!r}, not {', '.join(get_args(Trust))}")
    return replace(info, scores=scores)


def _take_interval(arrays: dict[str, np.ndarray], info: ModelInfo) -> Interval | None:
    """Take the arrays of the intervals out of those of the predictor.

    Raises
    ------
    InputError
        If they are not there, or are no ends of intervals of the model's genes at some level.
    """
    if info.interval is None:
        return None
    check_level(info.interval.level)
    ends = [arrays.pop(f"{INTERVAL}{name}", None) for name in ("below", "above")]
    below, above = ends
    shape = (len(info.genes),)
    if below is None or above is None or below.shape != shape or above.shape != shape:
        raise InputError(f"weights.safetensors does not hold both ends of an interval for {shape[0]} genes")
    if not ((below <= 0) & (above >= 0)).all():
        raise InputError("weights.safetensors holds an interval that does not hold its own prediction")
    return Interval(info.interval, below, above)


def _take_looks(arrays: dict[str, np.ndarray]) -> Looks | None:
    """Take what the training images look like out of the arrays of the predictor; None in folders of older formats.

    Raises
    ------
    InputError
        If a part of it is missing.
    """
    found = {name.removeprefix(LOOKS): arrays.pop(name) for name in list(arrays) if name.startswith(LOOKS)}
    if not found:
        return None
    if wrong := {f.name for f in fields(Looks)} ^ found.keys():
        raise InputError(f"weights.safetensors has missing or unknown looks of the training images ({min(wrong)})")
    looks = Looks(**found)
    if looks.bank.ndim != 2 or any(v.shape != looks.bank.shape[1:] for v in (looks.spread, looks.low, looks.high)):
        raise InputError("weights.safetensors holds looks of the training images whose shapes do not fit together")
    return looks


def _check_encoder(path: Path, predictor: Predictor, info: ModelInfo) -> None:
    """Raise ``FormatError`` if features here would be others than those that a model was fitted on."""
    here = encoder_card(predictor)
    if here is None or info.encoder is None:
        return
    for fact in ("name", "revision", "px", "n_dims"):
        if here.get(fact) != info.encoder.get(fact):
            raise FormatError(
                f"{path} was fitted on encoder {info.encoder['name']}, whose {fact} was {info.encoder.get(fact)}, and "
                f"here it is {here.get(fact)}; fit the model again, or give it the weights that it was fitted on"
            )


def split_fitted(fitted: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a fitted state, by dotted name, and what is plain JSON."""
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for name, value in fitted.items():
        if isinstance(value, np.ndarray):
            arrays[name] = np.ascontiguousarray(value)
        elif isinstance(value, dict):
            arrays |= {f"{name}/{k}": np.ascontiguousarray(v) for k, v in value.items()}
        elif isinstance(value, str | int | float | tuple):
            plain[name] = value
        else:
            raise InputError(
                f"fitted attribute {name} is a {type(value).__name__}; only arrays and plain values are saved"
            )
    return arrays, plain


def join_fitted(arrays: dict[str, np.ndarray], plain: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted state that ``split_fitted`` took apart.

    Raises
    ------
    InputError
        If a name is not one that ``fit`` gives: a file must not replace a method or a parameter.
    """
    for name in (*plain, *(a.partition("/")[0] for a in arrays)):
        if name.startswith("_") or not name.endswith("_"):
            raise InputError(f"{name!r} is no name of a fitted attribute")
    fitted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    for name, value in arrays.items():
        attribute, _, key = name.partition("/")
        if key:
            fitted.setdefault(attribute, {})[key] = value
        else:
            fitted[attribute] = value
    return fitted
