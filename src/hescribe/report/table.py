"""The results as a reader sees them: one line for each model, what came out, and the table as CSV."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hescribe.bench.ladder import create_model
from hescribe.bench.model_names import split_params
from hescribe.bench.own_model import SUFFIX
from hescribe.bench.results import Results
from hescribe.bench.scores import Score
from hescribe.errors import HescribeError

MAIN, WITHOUT_DEPTH = "pearson", "pearson_depth_partial"
MINUS, DASH = "\u2212", "\u2013"
Kind = Literal["predictor", "control", "uses_truth"]


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """One model of a run.

    Parameters
    ----------
    model
        Name on the ladder.
    summary
        One sentence; empty if the model is not installed any more.
    kind
        Predictor, control, or control that sees the measured expression of the test spots.
    transductive
        Whether it uses statistics of the test section's image.
    n_planned, n_done
        Cells of the run, and those that are finished.
    scores
        By metric.
    """

    model: str
    summary: str
    kind: Kind
    transductive: bool
    n_planned: int
    n_done: int
    scores: dict[str, Score]

    @property
    def main(self) -> Score | None:
        """Pearson, if the model has any finished cell."""
        return self.scores.get(MAIN)

    @property
    def without_depth(self) -> Score | None:
        """Pearson after log depth was removed from both sides."""
        return self.scores.get(WITHOUT_DEPTH)

    @property
    def value(self) -> float | None:
        """Mean Pearson, None where it is undefined or not there yet."""
        return self.main.value if self.main else None

    @property
    def share(self) -> float | None:
        """Pearson as a share of the noise ceiling."""
        main = self.main
        return main.value / main.ceiling if main and main.value is not None and main.ceiling else None

    @property
    def is_complete(self) -> bool:
        """Whether every cell of the plan is finished."""
        return self.n_done == self.n_planned


@dataclass(frozen=True)
class Null:
    """What shuffled pairs reach: mean, and spread over shuffles."""

    mean: float
    sd: float

    @classmethod
    def of(cls, score: Score | None) -> "Null | None":
        """Return what stands beside a score; None if fewer than two shuffles were run."""
        if score is None or score.chance is None or score.chance_sd is None or not np.isfinite(score.chance_sd):
            return None
        return cls(score.chance, score.chance_sd)


def model_lines(results: Results) -> list[ModelLine]:
    """Return a line for every model of the plan: predictors in the order of the run, then controls."""
    planned = pd.DataFrame(results.plan["cells"])
    done = results.rows.drop_duplicates(["model", "fold", "seed"])
    lines = []
    for model, cells in planned.groupby("model", sort=False):
        own = done[done["model"] == model]
        summary, transductive = _describe(str(model), own)
        lines.append(
            ModelLine(
                model=str(model),
                summary=summary,
                kind=(own["control"].iloc[0] if len(own) else "") or "predictor",
                transductive=transductive,
                n_planned=len(cells),
                n_done=len(own),
                scores={s.metric: s for s in results.scores if s.model == model},
            )
        )
    return sorted(lines, key=lambda line: ("predictor", "control", "uses_truth").index(line.kind))


def rank(lines: list[ModelLine]) -> list[ModelLine]:
    """Return the predictors with a score, best first; those with all their cells before the others."""
    scored = [x for x in lines if x.kind == "predictor" and x.value is not None]
    return sorted(scored, key=lambda x: (x.is_complete, x.value), reverse=True)


def to_frame(scores: list[Score]) -> pd.DataFrame:
    """Return the table for ``table.csv``: one row for each model and metric, one column for each donor."""
    flat = [asdict(s) for s in scores]
    for row in flat:
        row |= {f"donor {d}": v for d, v in row.pop("by_donor").items()}
    return pd.DataFrame(flat)


def verdict(lines: list[ModelLine]) -> list[str]:
    """Return what came out, in plain sentences.

    Differences below twice the spread of the shuffled pairs are called noise.
    """
    ranked = rank(lines)
    if not ranked:
        return ["No predictor has a defined score yet."]
    best, score, value = ranked[0], ranked[0].main, ranked[0].value
    assert score is not None  # rank leaves out models without a score
    assert value is not None
    held_out = f"{score.n_donors} held-out donor{'s' if score.n_donors != 1 else ''}"
    possible = f" of a possible {_two(score.ceiling)}" if score.ceiling else ""
    share = "" if best.share is None else f", {best.share:.0%} of what the noise in the counts allows"
    first = (
        f"Best predictor: {best.model}. On {held_out} its predictions correlate with the measured expression at "
        f"{_two(value)}{possible} (Pearson, mean over genes){share}."
    )
    said = [first, *_against_depth(best, value, lines)]
    null = Null.of(score)
    if null is None:
        return [*said, "Shuffled pairs were not run, so that nothing here says which differences are noise."]
    clear = "stands clear" if value - null.mean > 2 * null.sd else "does not stand clear"
    said.insert(
        1,
        "Fitted on shuffled pairs of image and expression, a model reaches "
        f"{_two(null.mean)} ± {_two(null.sd)}: the best predictor {clear} of that.",
    )
    if len(ranked) > 1 and ranked[1].value is not None:
        gap, twice = value - ranked[1].value, format_number(2 * null.sd)
        noise = f"noise (below {twice}," if gap < 2 * null.sd else f"more than noise ({twice} is"
        said.append(
            f"The next best, {ranked[1].model}, reaches {_two(ranked[1].value)}: the difference of "
            f"{format_number(gap)} is {noise} twice the spread of the shuffled pairs)."
        )
    return said


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number for people: a true minus sign, and a dash where nothing is defined.

    Examples
    --------
    >>> format_number(0.12345), format_number(-0.0001, 2)
    ('0.123', '0.00')
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return DASH
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def _against_depth(best: ModelLine, value: float, lines: list[ModelLine]) -> list[str]:
    said = []
    oracle = next((x.value for x in lines if x.model == "depth_oracle"), None)
    if oracle is not None:
        said.append(
            f"The log total counts of a spot alone, which no image model sees, reach {_two(oracle)}, "
            f"{'more' if oracle > value else 'less'} than the best predictor."
        )
    if (partial := best.without_depth) and partial.value is not None:
        null = Null.of(partial)
        chance = "" if null is None else f" (shuffled pairs: {_two(null.mean)} ± {_two(null.sd)})"
        said.append(f"With depth taken out of both sides the best predictor keeps {_two(partial.value)}{chance}.")
    return said


def _two(value: float) -> str:
    return format_number(value, 2)


def _describe(model: str, rows: pd.DataFrame) -> tuple[str, bool]:
    """Return summary and transductive mark of a model; blank for one that is not installed any more.

    A file of somebody's own is named, never run: results may come from anyone.
    """
    try:
        if split_params(model)[0].endswith(SUFFIX):
            return "predictor in a file", False
        card = create_model(model).card
    except HescribeError:
        return "", False
    params = json.loads(rows["params"].iloc[0]) if len(rows) else {}
    encoder = f"; encoder {params['encoder']}" if params.get("encoder") else ""
    return card.summary + encoder, card.transductive
