"""Fit a model on a whole cohort, and predict sections or bare images with it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe._support import write_whole
from hescribe.bench.ladder import N_SHUFFLES, DepthOracle, ShuffledPairs
from hescribe.bench.model_folder import FittedModel, ModelInfo
from hescribe.bench.model_names import encoder_card
from hescribe.bench.protocols import Protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.scores import Score, score_table
from hescribe.bench.task import PredictionTask
from hescribe.bench.trust import trust_table
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import take_print, to_mark
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.predict.base import Explains, Predictor
from hescribe.progress import track


def fit_model(predictor: Predictor, cohort: Cohort, protocol: Protocol) -> FittedModel:
    """Fit a predictor on all donors, with cross-validated score and trust class per gene.

    The panel is chosen on the whole cohort. The scores come from fits that never saw the donor
    they are tested on; with a single donor there are none, and every gene is ``untested``.

    Parameters
    ----------
    predictor
        Unfitted.
    cohort
        Sections without an image are left out.
    protocol
        Fixes spots and gene choice.

    Raises
    ------
    InputError
        If the protocol predicts something else than the lognorm values that a prediction promises.
    """
    check_target(protocol)
    task = PredictionTask(cohort, protocol)
    train = task.prepared
    genes = task.choose_genes(train)
    train = task.on_panel(train, genes)
    held_out, trust = _cross_validate(task, predictor, genes)
    score = next((s.value for s in held_out if (s.model, s.metric) == ("model", "pearson")), None)
    fitted = predictor.with_params().fit(train)  # type: ignore[attr-defined]
    info = ModelInfo(
        method=predictor.name, params=predictor.get_params(), genes=genes,  # type: ignore[attr-defined]
        encoder=encoder_card(predictor),
        cohort=cohort.card.id, synthetic=cohort.card.synthetic, licence=cohort.card.licence,
        citation=cohort.card.citation, donors=train.donors, organs=tuple(sorted({s.card.organ for s in train})),
        n_sections=len(train), n_spots=int(sum(s.kept.sum() for s in train)), data_hash=task.data_hash,
        pitch_um=float(np.median([s.card.pitch_um or 100.0 for s in train])), protocol=protocol.name,
        scores=_plain(trust), score=score,
        tissue=tuple(to_mark(take_print(s, cohort.card.id, frozenset(genes))) for s in task.prepared),
        held_out=tuple(held_out),
    )  # fmt: skip
    return FittedModel(fitted, info)


def check_target(protocol: Protocol) -> None:
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
    ``layers["predicted"]``: ln(1 + 1e4 * count / depth), spots by genes; ``obs["ood"]``: how unlike
    the training images a spot looks, 0 to 1; ``var["trust"]`` and the cross-validated scores.
    """
    blind = section.blind()
    prediction = model.predictor.predict(blind)
    obs = blind.table.obs.copy()
    obs[keys.OOD] = np.nan if prediction.ood is None else prediction.ood
    var = pd.DataFrame.from_dict(model.info.scores, orient="index").reindex(list(prediction.genes))
    var[keys.TRUST] = var[keys.TRUST].fillna("untested") if keys.TRUST in var else "untested"
    table = AnnData(obs=obs, var=var, obsm=dict(blind.table.obsm))
    table.layers[keys.PREDICTED] = prediction.mean.astype(np.float32)
    table.uns["hescribe"] = {
        "section": section.id, "model": model.info.method, "trained_on": model.info.cohort,
        "unit": "ln(1 + 1e4 * count / depth)", "version": model.info.version,
    }  # fmt: skip
    return table


def check_explains(model: FittedModel) -> None:
    """Raise ``InputError`` if the predictions of a model do not rest on single training spots."""
    if not isinstance(model.predictor, Explains):
        raise InputError(
            f"{model.info.method} averages no training spots; --explain is for methods that do, such as knn"
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


def _plain(trust: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return the table by gene, rounded; what is undefined is None, for JSON knows no NaN."""
    rounded = trust.round(4).astype(object)
    return {str(k): v for k, v in rounded.where(rounded.notna(), None).T.to_dict().items()}


def _cross_validate(
    task: PredictionTask, predictor: Predictor, genes: tuple[str, ...]
) -> tuple[list[Score], pd.DataFrame]:
    """Return the scores of model and controls on held-out donors, and the trust table."""
    if len(task.prepared.donors) < 2:
        return [], pd.DataFrame({keys.TRUST: "untested"}, index=list(genes))
    rows = []
    for fold in track(list(task.folds(panel=genes)), "scoring on held-out donors"):
        rows += run_cell(task, fold, predictor, 0, name="model").rows
        rows += run_cell(task, fold, DepthOracle(), 0).rows
        for seed in range(N_SHUFFLES):
            rows += run_cell(task, fold, ShuffledPairs(seed=seed), seed).rows
    table = pd.DataFrame([asdict(r) for r in rows])
    scores = score_table(table, average=task.protocol.average)
    return scores, trust_table(table, "model").reindex(list(genes))
