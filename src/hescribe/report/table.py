"""The results as a reader sees them: one line for each model, what came out, and the table as CSV."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from hescribe.bench.ladder import create_model
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
        if self.value is None or not self.main.ceiling:
            return None
        return self.value / self.main.ceiling

    @property
    def is_complete(self) -> bool:
        """Whether every cell of the plan is finished."""
        return self.n_done == self.n_planned


def model_lines(results: Results) -> list[ModelLine]:
    """Return a line for every model of the plan: predictors in the order of the run, then controls."""
    planned = pd.DataFrame(results.plan["cells"])
    rows = results.rows
    done = rows.drop_duplicates(["model", "fold", "seed"])
    lines = []
    for model, cells in planned.groupby("model", sort=False):
        own = rows[rows["model"] == model]
        summary, transductive = _describe(str(model), own)
        lines.append(
            ModelLine(
                model=str(model),
                summary=summary,
                kind=(own["control"].iloc[0] if len(own) else "") or "predictor",
                transductive=transductive,
                n_planned=len(cells),
                n_done=int((done["model"] == model).sum()),
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
    best, others = ranked[0], ranked[1:]
    score = best.main
    held_out = f"{score.n_donors} held-out donor{'s' if score.n_donors != 1 else ''}"
    possible = f" of a possible {score.ceiling:.2f}" if score.ceiling else ""
    said = [
        f"Best predictor: {best.model}. On {held_out} its predictions correlate with the measured expression at "
        f"{_two(score.value)}{possible} (Pearson, mean over genes)"
        + (f", {best.share:.0%} of what the noise in the counts allows." if best.share is not None else ".")
    ]
    said += _against_chance(score)
    said += _against_depth(best, lines)
    if others and score.chance_sd is not None:
        gap = score.value - others[0].value
        noise = gap < 2 * score.chance_sd
        said.append(
            f"The next best, {others[0].model}, reaches {_two(others[0].value)}: the difference of {gap:.3f} is "
            + (f"noise (below {2 * score.chance_sd:.3f}, twice the spread of the shuffled pairs)." if noise else
               f"more than noise (twice the spread of the shuffled pairs is {2 * score.chance_sd:.3f}).")
        )  # fmt: skip
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


def _against_chance(score: Score) -> list[str]:
    if score.chance_sd is None:
        return ["Shuffled pairs were not run, so that nothing here says which differences are noise."]
    clear = score.value - score.chance > 2 * score.chance_sd
    return [
        f"Fitted on shuffled pairs of image and expression, a model reaches {_two(score.chance)} ± "
        f"{score.chance_sd:.2f}: "
        + ("the best predictor stands clear of that." if clear else "the best predictor does not stand clear of that.")
    ]


def _against_depth(best: ModelLine, lines: list[ModelLine]) -> list[str]:
    said = []
    oracle = next((x for x in lines if x.model == "depth_oracle" and x.value is not None), None)
    if oracle:
        more = "more than" if oracle.value > best.value else "less than"
        said.append(
            f"The log total counts of a spot alone, which no image model sees, reach {_two(oracle.value)}, "
            f"{more} the best predictor."
        )
    if (partial := best.without_depth) and partial.value is not None:
        null = (
            "" if partial.chance_sd is None else f" (shuffled pairs: {_two(partial.chance)} ± {partial.chance_sd:.2f})"
        )
        said.append(f"With depth taken out of both sides the best predictor keeps {_two(partial.value)}{null}.")
    return said


def _two(value: float) -> str:
    return format_number(value, 2)


def _describe(model: str, rows: pd.DataFrame) -> tuple[str, bool]:
    """Return summary and transductive mark of a model; blank for one that is not installed any more."""
    try:
        card = create_model(model).card
    except HescribeError:
        return "", False
    params = json.loads(rows["params"].iloc[0]) if len(rows) else {}
    encoder = f"; encoder {params['encoder']}" if params.get("encoder") else ""
    return card.summary + encoder, card.transductive
