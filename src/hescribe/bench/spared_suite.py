"""The benchmark of SpaRED as one command: predictors on measured and on completed train labels, and their ranks.

Mejia et al., MICCAI 2024, arXiv:2407.13027. Their leaderboard ships as reference and is marked as published: it was
scored on their data and by their code, and nothing here is compared with it by a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from hescribe.bench.ladder import CONTROLS
from hescribe.bench.protocols import MEASURED, read_protocol, with_labels
from hescribe.bench.results import Results
from hescribe.bench.runner import plan_run
from hescribe.bench.runs import Run, RunSummary, finish_runs
from hescribe.bench.scores import Score
from hescribe.bench.spared_task import read_task
from hescribe.bench.study import Study
from hescribe.metrics.gene import rank
from hescribe.metrics.stats import MIN_DONORS

N_RESAMPLES = 2000
TAIL = 2.5  # per cent on either side of an interval


@dataclass(frozen=True)
class Entrant:
    """A model with the train labels it was given: what is ranked.

    Parameters
    ----------
    model
        Name as in the study.
    labels
        ``"measured"``, or the completer that filled what is missing of the train labels.
    scores
        By metric.
    mean_rank
        Of its main score, 1 the best: mean over genes and sections, then donors; those that tie share a rank.
    tied
        Places in the list of those that it is not told apart from.
    """

    model: str
    labels: str
    scores: dict[str, Score]
    mean_rank: float
    tied: frozenset[int]


@dataclass(frozen=True)
class SparedResults:
    """What a run of the suite left in its folder.

    Parameters
    ----------
    path
        Folder given to ``bench run --out``.
    """

    path: Path

    @cached_property
    def study(self) -> Study:
        """The resolved study."""
        return Results(self.path).study

    @cached_property
    def runs(self) -> dict[str, Results]:
        """The run with each kind of train labels; each is a run like any other.

        Raises
        ------
        DataAccessError
            If one of them has no finished cell.
        """
        found = {labels: Results(self.path / labels) for labels in (MEASURED, *self.study.completers)}
        for results in found.values():
            results.check_finished()
        return found

    @property
    def main(self) -> str:
        """Name of the protocol's main metric."""
        return str(self.runs[MEASURED].plan["protocol"]["metrics"][0])

    @property
    def scores(self) -> list[Score]:
        """The scores of all runs."""
        return [s for results in self.runs.values() for s in results.scores]

    @cached_property
    def by_labels(self) -> dict[str, dict[str, float]]:
        """Main score of each predictor with each kind of labels, where it has all."""
        found: dict[str, dict[str, float]] = {}
        for x in self.entrants:
            score = x.scores.get(self.main)
            if score is not None and score.value is not None:
                found.setdefault(x.model, {})[x.labels] = score.value
        return {model: values for model, values in found.items() if len(values) == len(self.runs)}

    @cached_property
    def entrants(self) -> list[Entrant]:
        """Every predictor with every kind of labels, best mean rank first; controls are not ranked."""
        values, donors, names = self._values()
        ranks = len(names) + 1 - rank(np.where(np.isnan(values), -np.inf, values).T).T
        by_donor = np.stack([ranks[donors == d].mean(axis=0) for d in np.unique(donors)])
        mean = by_donor.mean(axis=0)
        order = np.argsort(mean, kind="stable")
        units = by_donor if len(by_donor) >= MIN_DONORS else ranks
        apart = _told_apart(units[:, order])
        return [
            Entrant(
                model=names[i][0],
                labels=names[i][1],
                scores=self._scores_of(*names[i]),
                mean_rank=float(mean[i]),
                tied=frozenset(np.flatnonzero(~apart[place]).tolist()),
            )
            for place, i in enumerate(order)
        ]

    @property
    def rests_on(self) -> str:
        """What the ties rest on: donors, or with fewer than five of them only genes and sections."""
        n = self.runs[MEASURED].rows["donor"].nunique()
        return "donors" if n >= MIN_DONORS else "genes"

    def _values(self) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
        """Return the main score (n_units, n_entrants), each unit's donor, and model and labels of each column."""
        parts = []
        for labels, results in self.runs.items():
            rows = results.rows
            own = rows[(rows["metric"] == self.main) & (rows["gene"] != "") & (rows["control"] == "")]
            parts.append(own.assign(labels=labels))
        table = pd.concat(parts).pivot_table(
            index=["donor", "section", "gene"], columns=["model", "labels"], values="value", dropna=False, sort=False
        )
        table = table[table.notna().any(axis=1)]
        donors = table.index.get_level_values("donor").to_numpy()
        names = [c for c in table.columns if table[c].notna().any()]
        return table[names].to_numpy(), donors, names

    def _scores_of(self, model: str, labels: str) -> dict[str, Score]:
        return {s.metric: s for s in self.runs[labels].scores if s.model == model}


@cache
def read_leaderboard() -> pd.DataFrame:
    """Return the leaderboard of SpaRED's site, July 2024: ``dataset, metric, title, model, value, doubt``.

    Ten predictors on 26 datasets, mean squared error and PCC-Gene on measured entries of the test split, or of the
    validation split where there is no other. Which train labels they had is not said; completed ones by default.

    Examples
    --------
    >>> table = read_leaderboard()
    >>> table["dataset"].nunique(), table["model"].nunique()
    (26, 10)
    """
    with (files("hescribe.bench") / "spared_leaderboard.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def published_scores(dataset: str) -> pd.DataFrame:
    """Return what was published for a dataset of the catalogue, best correlation first; no row for another.

    Returns
    -------
    Columns ``title, model, pearson_measured, mse_entries, doubt``.

    Examples
    --------
    >>> published_scores("villacampa_lung_organoid")["title"].iloc[0]
    'ViT-B+Δ'
    """
    table = read_leaderboard()
    own = table[table["dataset"] == dataset]
    wide = own.pivot_table(index=["title", "model"], columns="metric", values="value")
    doubts = own.groupby("title")["doubt"].agg(lambda d: "; ".join(dict.fromkeys(filter(None, d))))
    wide = wide.reset_index().reindex(columns=["title", "model", "pearson_measured", "mse_entries"])
    return wide.assign(doubt=wide["title"].map(doubts)).sort_values("pearson_measured", ascending=False)


def run_spared(study: Study) -> RunSummary:
    """Run a study's predictors on measured and on filled train labels: see ``plan_spared``."""
    return finish_runs(plan_spared(study), Path(study.out), study=study)


def plan_spared(study: Study) -> list[Run]:
    """Return the run on measured and those on filled train labels, each in a folder of its own.

    Raises
    ------
    UnknownNameError
        If there is no protocol, predictor or completer of a name.
    """
    base = read_protocol(study.protocol)
    protocols = {MEASURED: base, **{c: with_labels(base, c) for c in study.completers}}
    return [
        plan_run(
            read_task(Path(study.cohort), protocol),
            _models(study.models, labels),
            Path(study.out) / labels,
            study.seeds,
        )
        for labels, protocol in protocols.items()
    ]


def _models(models: Sequence[str], labels: str) -> tuple[str, ...]:
    """Return the models that completed labels can change: controls are run once."""
    return tuple(m for m in models if labels == MEASURED or m.partition(":")[0] not in CONTROLS)


def _told_apart(ranks: np.ndarray) -> np.ndarray:
    """Return which pairs of columns differ in mean rank: 95 % of resampled units agree on the sign, (n, n) bool."""
    n_units = len(ranks)
    draw = np.random.default_rng(0).integers(n_units, size=(N_RESAMPLES, n_units))
    weights = np.stack([np.bincount(row, minlength=n_units) for row in draw]) / n_units
    means = weights @ ranks
    differences = means[:, :, None] - means[:, None, :]
    low, high = np.percentile(differences, [TAIL, 100 - TAIL], axis=0)
    return (low > 0) | (high < 0)
