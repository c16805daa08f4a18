"""Read what was predicted for measured sections: from a benchmark run, or from the folder of ``hescribe predict``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from anndata import AnnData

from hescribe import keys
from hescribe.analysis.overview import PredictedSection
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.task import PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.folder import read_cohort, read_index, read_section
from hescribe.data.h5ad import read_h5ad
from hescribe.errors import DataAccessError, FormatError, InputError, PanelError
from hescribe.progress import track

PROTOCOL = "donor-v1"  # whose spots and unit the predictions of a model folder are compared in


def read_scored_cohort(results: Results) -> Cohort:
    """Return the sections that a run scored: those with an image.

    Raises
    ------
    InputError
        If the cohort changed after the run.
    DataAccessError
        If it is not there any more.
    """
    path = Path(results.study.cohort)
    record = read_index(path)
    cohort = Cohort(tuple(read_section(r, path) for r in record.section if r.image is not None), record.card)
    if PredictionTask(cohort, results.protocol).data_hash != results.plan["data_hash"]:
        raise InputError(f"the cohort in {path} changed after the run; run the benchmark again")
    return cohort


def best_model(results: Results) -> str:
    """Return the predictor of highest Pearson correlation in a run.

    Raises
    ------
    InputError
        If no predictor has a defined score.
    """
    scored = [s for s in results.scores if s.metric == "pearson" and not s.control and s.value is not None]
    if not scored:
        raise InputError(
            f"no predictor in {results.path} has a defined score; run one that predicts more than a constant"
        )
    return max(scored, key=lambda s: s.value or 0.0).model


def read_run(path: Path, model: str | None = None) -> tuple[str, list[PredictedSection]]:
    """Return a model's name and what it predicted for held-out sections in a benchmark run.

    Parameters
    ----------
    path
        Folder of the run.
    model
        Its best predictor by default.

    Raises
    ------
    InputError
        If the run kept no predictions of the model, or scored corrected or pooled values.
    DataAccessError, FormatError
        If the run or its cohort is missing or damaged.
    """
    results = Results(path)
    if results.suite != "prediction":
        raise InputError(f"{path} is a run of completers; what can be analysed is a run of predictors")
    rule = results.protocol
    if rule.batch_correction != "none" or rule.pool != "section":
        raise InputError(f"protocol {rule.name} scores corrected or pooled values, which are no section's own; analyse "
                         "a run without that shortcut")  # fmt: skip
    model = model or best_model(results)
    predictions = results.predictions(model)
    if not predictions:
        known = sorted({c["model"] for c in results.plan["cells"]})
        raise InputError(
            f"{path} holds no predictions of {model!r}; it ran {', '.join(known)}, and keeps those of predictors"
        )
    own = results.rows.query("model == @model and metric == 'pearson' and gene != ''")
    panels = own.drop_duplicates(["section", "gene"]).groupby("section")["gene"].agg(tuple)  # the first seed, in order
    task = PredictionTask(read_scored_cohort(results), rule)
    out = []
    for section in track(task.prepared, "reading predictions"):
        if section.id in predictions:
            on_panel = task.on_panel(replace(task.prepared, sections=(section,)), panels[section.id])
            out.append(PredictedSection(on_panel[0], predictions[section.id], rule.target))
    return model, out


def read_predicted(path: Path, cohort: Path) -> tuple[str, list[PredictedSection], list[str]]:
    """Return a model's name, what ``hescribe predict`` wrote for a cohort, and what a reader must know.

    Genes that the cohort does not have are left out; spots are matched by name.

    Parameters
    ----------
    path
        Folder with one h5ad a section.
    cohort
        Folder of the cohort that was predicted.

    Raises
    ------
    DataAccessError
        If there is no prediction of a section of the cohort.
    FormatError
        If a file is no prediction, or damaged.
    PanelError
        If no predicted gene was measured.
    InputError
        If the spots of a prediction are not those of its section.
    """
    measured = read_cohort(cohort, with_image=True)
    task = PredictionTask(measured, read_protocol(PROTOCOL))
    out: list[PredictedSection] = []
    notes: list[str] = []
    models: list[str] = []
    missing: set[str] = set()
    for section in track(task.prepared, "reading predictions"):
        file = path / f"{section.id}.h5ad"
        if not file.is_file():
            continue
        table = _read_prediction(file)
        genes = tuple(g for g in table.var_names if g in set(section.genes))
        if not genes:
            raise PanelError(f"no gene of {file} is among the {len(section.genes)} of cohort {measured.card.id}")
        missing |= set(table.var_names) - set(genes)
        if set(table.obs_names) != set(section.table.obs_names):
            raise InputError(f"{file} has other spots than section {section.id} of {cohort}; predict this cohort again")
        values = np.asarray(table[section.table.obs_names, list(genes)].layers[keys.PREDICTED], dtype=np.float32)
        on_panel = task.on_panel(replace(task.prepared, sections=(section,)), genes)
        out.append(PredictedSection(on_panel[0], values))
        facts = table.uns.get("hescribe", {})
        models.append(str(facts.get("model", "a model")))
        if facts.get("trained_on") == measured.card.id and not notes:
            notes.append("the model was trained on this very cohort: on new donors it does not do as well")
    if not out:
        raise DataAccessError(f"{path} holds no prediction (<section>.h5ad) of a section of cohort {measured.card.id}")
    if missing:
        notes.append(f"{len(missing)} predicted genes were not measured and are left out")
    return ", ".join(dict.fromkeys(models)), out, notes


def _read_prediction(file: Path) -> AnnData:
    table = read_h5ad(file)
    if keys.PREDICTED not in table.layers:
        raise FormatError(f"{file} has no layer {keys.PREDICTED!r}: it was not written by hescribe predict")
    return table
