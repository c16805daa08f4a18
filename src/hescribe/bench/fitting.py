"""Fit a model on a whole cohort, and predict sections or bare images with it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe._support import write_whole
from hescribe.bench.doubt import find_doubts, find_flags, fit_looks, score_looks
from hescribe.bench.flags import FLAGS
from hescribe.bench.interval import Interval, fit_interval, to_points
from hescribe.bench.ladder import N_SHUFFLES, DepthOracle, ShuffledPairs
from hescribe.bench.model_folder import FittedModel, ModelInfo
from hescribe.bench.model_names import encoder_card
from hescribe.bench.protocols import Protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.scores import Score, score_table
from hescribe.bench.store import Row
from hescribe.bench.task import PredictionTask
from hescribe.bench.trust import trust_table
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import take_print, to_mark
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.predict.base import Explains, Prediction, Predictor
from hescribe.prep.split import inner_folds
from hescribe.progress import track

BLOCK_MARGIN = 4  # pitches between a block that is predicted and what the fit reads, with a single donor


def fit_model(
    predictor: Predictor, cohort: Cohort, protocol: Protocol, *, genes: tuple[str, ...] | None = None
) -> FittedModel:
    """Fit a predictor on all donors, with cross-validated score, trust class and interval per gene.

    The panel is chosen on the whole cohort, unless it is given. The scores come from fits that never saw the donor
    they are tested on; with a single donor there are none, and every gene is ``untested``. The
    residuals of the same fits set the intervals; with a single donor, those of fits that never saw
    a block of its sections.

    Parameters
    ----------
    predictor
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
        If the protocol predicts something else than the lognorm values that a prediction promises.
    PanelError
        If a gene that is given was not measured in every section, or is given twice.
    """
    check_lognorm(protocol)
    task = PredictionTask(cohort, protocol)
    train = task.prepared
    genes = genes or task.choose_genes(train)
    train = task.on_panel(train, genes)
    tested = _cross_validate(task, predictor, genes)
    held_out, trust = tested.scores, tested.trust
    interval = tested.interval or _block_interval(predictor, train)
    score = next((s.value for s in held_out if (s.model, s.metric) == ("model", "pearson")), None)
    fitted = predictor.with_params().fit(train)  # type: ignore[attr-defined]
    info = ModelInfo(
        method=predictor.name, params=predictor.get_params(), genes=genes,  # type: ignore[attr-defined]
        encoder=encoder_card(predictor),
        cohort=cohort.card.id, synthetic=cohort.card.synthetic, licence=cohort.card.licence,
        citation=cohort.card.citation, donors=train.donors, organs=tuple(sorted({s.card.organ for s in train})),
        n_sections=len(train), n_spots=int(sum(s.kept.sum() for s in train)), data_hash=task.data_hash,
        pitch_um=float(np.median([s.card.pitch_um or 100.0 for s in train])), protocol=protocol.name,
        scores=to_scores(trust), score=score,
        tissue=tuple(to_mark(take_print(s, cohort.card.id, frozenset(genes))) for s in task.prepared),
        held_out=tuple(held_out), interval=None if interval is None else interval.info,
        image_mpp=_span([s.image.mpp for s in train if s.image is not None]),
    )  # fmt: skip
    return FittedModel(fitted, info, interval, fit_looks(predictor, train, tested.ood))


def predict_section(model: FittedModel, section: Section) -> Prediction:
    """Return the prediction of a section with the model's intervals, whatever the section's table holds.

    Nothing is predicted under 0, which no expression is; a linear method would, of a gene that is hardly there.
    ``ood`` compares the section's image with those of the training, whatever the predictor reads of it.
    """
    prediction = model.predictor.predict(section.blind())
    mean = np.maximum(prediction.mean, 0.0)
    prediction = replace(prediction, mean=mean, ood=score_looks(model, section, prediction.ood))
    if model.interval is None:
        return prediction
    lower, upper = model.interval.ends(mean)
    return replace(prediction, lower=lower, upper=upper)


def check_lognorm(protocol: Protocol) -> None:
    """Raise ``InputError`` if a protocol predicts something else than the lognorm values that a prediction promises."""
    if protocol.changes_target:
        raise InputError(
            f"protocol {protocol.name} predicts something else than ln(1 + 1e4 * count / depth), the unit of every "
            "prediction; fit under one without a shortcut in the target, such as donor-v1"
        )


def predict_table(model: FittedModel, section: Section) -> AnnData:
    """Return the predicted table of a section, whatever else its table holds.

    Returns
    -------
    ``layers["predicted"]``: ln(1 + 1e4 * count / depth), spots by genes; ``layers["lower"]`` and
    ``layers["upper"]``: ends of its interval, where the model has one, about which ``uns["hescribe"]``
    says what it rests on; ``obs["ood"]``: how unlike the training images a spot looks, 0 to 1;
    ``obs["flag"]``: what is wrong with the image there; ``var["trust"]`` and the cross-validated scores.
    ``uns["hescribe"]["doubts"]``: why the whole section may not be trusted, if there is a reason.
    """
    blind = section.blind()
    prediction = predict_section(model, section)
    obs = blind.table.obs.copy()
    obs[keys.OOD] = np.nan if prediction.ood is None else prediction.ood
    if (flags := find_flags(model, section)) is not None:
        obs[keys.FLAG] = pd.Categorical(flags, categories=["", *FLAGS])
    var = pd.DataFrame.from_dict(model.info.scores, orient="index").reindex(list(prediction.genes))
    undefined = var.columns[var.isna().all()]
    var[undefined] = var[undefined].astype(float)  # a column of None alone cannot be written
    var[keys.TRUST] = var[keys.TRUST].fillna("untested") if keys.TRUST in var else "untested"
    table = AnnData(obs=obs, var=var, obsm=dict(blind.table.obsm))
    table.layers[keys.PREDICTED] = prediction.mean.astype(np.float32)
    table.uns["hescribe"] = {
        "section": section.id, "model": model.info.method, "trained_on": model.info.cohort,
        "unit": "ln(1 + 1e4 * count / depth)", "version": model.info.version,
    }  # fmt: skip
    if prediction.lower is not None and prediction.upper is not None:
        table.layers[keys.LOWER] = prediction.lower.astype(np.float32)
        table.layers[keys.UPPER] = prediction.upper.astype(np.float32)
    if doubts := find_doubts(model, section, prediction.ood):
        table.uns["hescribe"]["doubts"] = doubts
    if model.info.interval is not None:
        table.uns["hescribe"]["interval"] = model.info.interval.sentence
    return table


def check_explains(model: FittedModel) -> None:
    """Raise ``InputError`` if a model cannot name the training spots that its predictions rest on."""
    if not isinstance(model.predictor, Explains):
        raise InputError(
            f"{model.info.method} averages no training spots; --explain is for methods that do, such as knn or ridge"
        )
    if not getattr(model.predictor, "keep_spots", True):
        raise InputError(
            f"this {model.info.method} kept no training spots to name; fit it with --set keep_spots=true for --explain"
        )


def write_neighbours(path: Path, model: FittedModel, section: Section) -> None:
    """Write the training spots that the prediction of every spot of a section rests on, as CSV: see ``Explains``.

    Raises
    ------
    InputError
        If the model retrieves none.
    """
    check_explains(model)
    with write_whole(path) as tmp:
        model.predictor.explain(section.blind()).to_csv(tmp, index=False)  # type: ignore[attr-defined]


def to_scores(trust: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return a trust table by gene, rounded; what is undefined is None, for JSON knows no NaN."""
    rounded = trust.round(4).astype(object)
    return {str(k): v for k, v in rounded.where(rounded.notna(), None).to_dict("index").items()}


@dataclass(frozen=True)
class _Tested:
    """What came of donors held out: scores of model and controls, trust table, intervals, and ``ood`` by section."""

    scores: list[Score]
    trust: pd.DataFrame
    interval: Interval | None
    ood: dict[str, np.ndarray]


def _cross_validate(task: PredictionTask, predictor: Predictor, genes: tuple[str, ...]) -> _Tested:
    """Test a predictor on donors held out; with a single donor nothing comes of it."""
    if len(task.prepared.donors) < 2:
        return _Tested([], pd.DataFrame({keys.TRUST: "untested"}, index=list(genes)), None, {})
    rows: list[Row] = []
    points: dict[str, list[np.ndarray]] = {}
    ood: dict[str, np.ndarray] = {}
    for fold in track(list(task.folds(panel=genes)), "scoring on held-out donors"):
        own = run_cell(task, fold, predictor, 0, name="model")
        rows += own.rows
        ood |= own.ood
        for s in fold.test:
            residual = s.layer(keys.TARGET) - own.predictions[s.id][s.kept]
            points.setdefault(s.donor, []).append(to_points(residual, s.donor))
        rows += run_cell(task, fold, DepthOracle(), 0).rows
        for seed in range(N_SHUFFLES):
            rows += run_cell(task, fold, ShuffledPairs(seed=seed), seed).rows
    table = pd.DataFrame([asdict(r) for r in rows])
    scores = score_table(table, average=task.protocol.average)
    interval = fit_interval(
        {donor: np.concatenate(p) for donor, p in points.items()},
        rests_on=None if task.protocol.split == "donor" else "spots",
    )
    return _Tested(scores, trust_table(table, "model").reindex(list(genes)), interval, ood)


def _span(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def _block_interval(predictor: Predictor, train: Cohort) -> Interval | None:
    """Return the intervals of a single donor, from blocks of its sections; None if they are too small to fit on."""
    pitch_um = max((s.card.pitch_um or 0.0) for s in train)
    residuals = []
    for inner, outer in inner_folds(train, view_um=BLOCK_MARGIN * pitch_um):
        try:
            fitted = predictor.with_params().fit(inner)  # type: ignore[attr-defined]
        except InputError:  # too few spots in what is left; the fit on all of them may do
            return None
        residuals += [s.layer(keys.TARGET) - fitted.predict(s.blind()).mean[s.kept] for s in outer]
    return fit_interval({train.donors[0]: np.concatenate(residuals)})
