"""Which completer is better, and by how much, at every share of hidden counts."""

from dataclasses import dataclass

from hescribe.bench.compare import try_compare
from hescribe.bench.completion.task import name_at
from hescribe.bench.results import Results
from hescribe.bench.scores import Score
from hescribe.metrics.stats import DonorMean

MAIN = "mse"


@dataclass(frozen=True, kw_only=True)
class CompletionLine:
    """One completer with one share of the counts hidden.

    Parameters
    ----------
    share
        Share hidden.
    model
        Name of the completer, with its parameters.
    scores
        By metric: ``mse``, ``mae``, ``pearson_hidden``, ``coverage_90``.
    behind
        MSE less that of the best completer at this share; None for the best, and where they share no scored section.
    """

    share: float
    model: str
    scores: dict[str, Score]
    behind: DonorMean | None

    @property
    def mse(self) -> float | None:
        """Mean squared error; None where nothing was hidden."""
        return self.scores[MAIN].value

    @property
    def floor(self) -> float | None:
        """Mean squared error that counting noise alone leaves; None where it is not known."""
        return self.scores[MAIN].ceiling


def completion_lines(results: Results) -> list[CompletionLine]:
    """Return a line for every share and completer of a run, shares ascending, the lowest error first."""
    shares = {name_at(results.plan["task"]["name"], share): share for share in results.plan["protocol"]["shares"]}
    lines = []
    for task, share in sorted(shares.items(), key=lambda item: item[1]):
        scores = [s for s in results.scores if s.task == task]
        by_model = {m: {s.metric: s for s in scores if s.model == m} for m in dict.fromkeys(s.model for s in scores)}
        errors = {m: s[MAIN].value for m, s in by_model.items()}
        known = {m: e for m, e in errors.items() if e is not None}
        order = [*sorted(known, key=lambda m: known[m]), *(m for m in errors if m not in known)]
        rows = results.rows[results.rows["task"] == task]
        for model in order:
            behind = try_compare(rows, model, order[0], metric=MAIN) if model != order[0] else None
            lines.append(CompletionLine(share=share, model=model, scores=by_model[model], behind=behind))
    return lines
