"""Which candidate to take: the simplest one whose score is not told apart from the best.

With three or more donors the difference to the best is set against one standard error of its mean over donors, as
Breiman, Friedman, Olshen and Stone do for trees (Classification and Regression Trees, Wadsworth 1984, section 3.4.3);
here the differences are paired, for donors differ more than models do. With fewer donors there is no spread to speak
of, and the difference must exceed twice the spread of shuffled pairs.

Nothing is picked that shuffled pairs could have reached. All genes of a fit on shuffled pairs follow one direction of
the image, often that of depth, so that their plain scores spread widely; without depth they do not. A candidate is
clear of chance if either score is; the limit allows for all scores that are looked at and for the few shuffles. The
shuffled pairs are those of a colour ridge, and other methods have other chances: a score below 0.02, which tells no two
spots apart, is never taken for signal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes two seconds to import

FLOOR = "mean"  # the candidate that tells no spot from another
MIN_DONORS = 3
NOISE = 2.0  # spreads of the shuffled pairs, where donors are too few to have one
LEAST = 0.02  # Pearson that is worth a fit, however small chance seems
FALSE = 0.05  # of cohorts without any signal, at most this share is fitted
Verdict = Literal[
    "", "picked", "best", "not told apart from the best", "behind the best", "no better than chance", "failed"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model that was looked at.

    Parameters
    ----------
    model
        Name, as ``create_model`` takes it.
    score, by_donor
        Pearson, mean over donors, and of each donor (or of each block of a single one); None and empty if it could not
        be fitted.
    without_depth
        The same after log depth was removed from both sides.
    problem
        Why it could not be fitted.
    behind, margin
        Mean difference to the best, and what it must exceed to count.
    verdict
        What came of it.
    """

    model: str
    score: float | None = None
    by_donor: dict[str, float]
    without_depth: float | None = None
    problem: str = ""
    behind: float | None = None
    margin: float | None = None
    verdict: Verdict = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """Mean and spread, over shuffles, of what is learned from pairs that do not belong together."""

    mean: float
    sd: float
    n_shuffles: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Chance":
        """Return the chance of the scores of two or more shuffles."""
        return cls(mean=float(np.mean(scores)), sd=float(np.std(scores, ddof=1)), n_shuffles=len(scores))

    def limit(self, n_looks: int) -> float:
        """Return what the best of several scores without signal exceeds in one of twenty cohorts.

        The one-sided limit of Student's t for one more draw, shared out over the looks.

        Examples
        --------
        >>> round(Chance(mean=0.0, sd=1.0, n_shuffles=10).limit(1), 2)  # 1.833 * sqrt(1.1)
        1.92
        """
        t = stdtrit(self.n_shuffles - 1, 1 - FALSE / n_looks)
        return self.mean + float(t) * self.sd * (1 + 1 / self.n_shuffles) ** 0.5

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.sd:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What the scores are read beside.

    Parameters
    ----------
    chance, chance_without_depth
        Pearson of shuffled pairs, plain and without depth.
    depth_oracle
        Pearson of the log total counts of the test spots alone, which no image shows.
    """

    chance: Chance
    chance_without_depth: Chance
    depth_oracle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was picked, and why.

    Parameters
    ----------
    picked
        Name of a candidate; None if none is worth fitting.
    rule, reason
        How it was picked, in a sentence; what and why, or why nothing, in a few.
    candidates
        Every one, from the simplest on.
    controls
        What their scores are read beside.
    by_block
        Whether blocks of one donor stood for donors.
    """

    picked: str | None
    rule: str
    reason: str
    candidates: tuple[Candidate, ...]
    controls: Controls
    by_block: bool


def choose_simplest(candidates: Sequence[Candidate], controls: Controls, *, by_block: bool = False) -> Choice:
    """Return the simplest candidate that is not told apart from the best, if that beats chance and the train mean.

    Parameters
    ----------
    candidates
        From the simplest on; at least one with a score.
    controls, by_block
        See ``Choice``.

    Examples
    --------
    >>> scores = {"color_ridge": {"A": 0.2, "B": 0.1, "C": 0.3}, "mlp": {"A": 0.1, "B": 0.3, "C": 0.3}}
    >>> looked_at = [Candidate(model=m, score=sum(v.values()) / 3, by_donor=v) for m, v in scores.items()]
    >>> chance = Chance(mean=0.0, sd=0.01, n_shuffles=10)
    >>> controls = Controls(chance=chance, chance_without_depth=chance, depth_oracle=0.2)
    >>> choose_simplest(looked_at, controls).picked  # mlp is ahead by 0.033; the standard error of that is 0.088
    'color_ridge'
    """
    scored = [c for c in candidates if c.score is not None]
    best = max(scored, key=_score)  # the first of equals
    n_looks = 2 * sum(c.model != FLOOR for c in scored)  # plain and without depth
    clear = {c.model for c in scored if _beats_chance(c, controls, n_looks)}
    measured = [_measure(c, best, controls, is_clear=c.model in clear, by_block=by_block) for c in candidates]
    tied = [c for c in measured if c.verdict in ("best", "not told apart from the best")]
    is_floor_tied = FLOOR in {c.model for c in tied}
    picked = None if is_floor_tied else next((c for c in tied if c.model in clear), None)
    shown = tuple(replace(c, verdict="picked") if picked and c.model == picked.model else c for c in measured)
    on_donors = not by_block and len(best.by_donor) >= MIN_DONORS
    return Choice(
        picked=picked.model if picked else None,
        rule=_tell_rule(on_donors=on_donors),
        reason=_tell_pick(picked, shown, controls, by_block=by_block)
        if picked
        else _tell_refusal(best, shown, controls, is_floor_tied=is_floor_tied, by_block=by_block),
        candidates=shown,
        controls=controls,
        by_block=by_block,
    )


def _score(candidate: Candidate) -> float:
    assert candidate.score is not None  # the caller leaves out what failed
    return candidate.score


def _beats_chance(candidate: Candidate, controls: Controls, n_looks: int) -> bool:
    """Return whether a score, plain or without depth, is one that no shuffled pairs would give."""
    if candidate.model == FLOOR:
        return False
    rest = -1.0 if candidate.without_depth is None else candidate.without_depth
    limits = controls.chance.limit(n_looks), controls.chance_without_depth.limit(n_looks)
    return _score(candidate) > max(limits[0], LEAST) or rest > max(limits[1], LEAST)


def _measure(candidate: Candidate, best: Candidate, controls: Controls, *, is_clear: bool, by_block: bool) -> Candidate:
    """Return the candidate with its difference to the best, the margin, and the verdict but for what is picked."""
    if candidate.score is None:
        return replace(candidate, verdict="failed")
    gaps = np.array([best.by_donor[d] - candidate.by_donor[d] for d in best.by_donor])
    if by_block or len(gaps) < MIN_DONORS:
        margin = NOISE * controls.chance.sd
    else:
        margin = float(gaps.std(ddof=1) / len(gaps) ** 0.5)
    behind = float(gaps.mean())
    verdict: Verdict = "not told apart from the best" if behind <= margin else "behind the best"
    if candidate.model == best.model:
        verdict = "best"
    elif verdict == "behind the best" and not is_clear:
        verdict = "no better than chance"
    return replace(candidate, behind=behind, margin=margin, verdict=verdict)


def _tell_rule(*, on_donors: bool) -> str:
    margin = (
        "one standard error of that difference over donors"
        if on_donors
        else f"{NOISE:g} spreads of shuffled pairs, for fewer than {MIN_DONORS} donors have no spread of their own"
    )
    return (
        "The simplest candidate whose mean Pearson on held-out data is behind the best by no more than "
        f"{margin}, provided that it stands clear of shuffled pairs and of {LEAST:g}, plain or without depth."
    )


def _tell_pick(picked: Candidate, shown: Sequence[Candidate], controls: Controls, *, by_block: bool) -> str:
    scored = [c for c in shown if c.score is not None]
    best = max(scored, key=_score)
    where = _tell_where(picked, by_block=by_block)
    first = f"Picked {picked.model} (Pearson {_score(picked):.3f} on {where}): "
    if len(scored) == 1:
        first += "the only candidate that was scored."
    elif best.model == picked.model:
        first += f"the best of {len(scored)} candidates, and every simpler one is behind by more than the margin."
    else:
        first += (
            f"the simplest of {len(scored)} candidates that is not told apart from the best, {best.model} "
            f"({_score(best):.3f}; the difference of {picked.behind:.3f} is within {picked.margin:.3f})."
        )
    rest = "" if picked.without_depth is None else f" (it keeps {picked.without_depth:.3f})"
    beside = (
        f"Shuffled pairs reach {controls.chance}, and without depth{rest} {controls.chance_without_depth}. "
        f"The log total counts of a spot alone, which no image shows, reach {controls.depth_oracle:.3f}."
    )
    cautions = [f"a score picked among {len(scored)} is too good: on new donors expect less"] if len(scored) > 1 else []
    cautions += ["blocks of one donor say nothing of another"] if by_block else []
    caution = ", and ".join(cautions)
    return f"{first} {beside} {caution[:1].upper()}{caution[1:]}{'.' if caution else ''}".rstrip()


def _tell_refusal(
    best: Candidate, shown: Sequence[Candidate], controls: Controls, *, is_floor_tied: bool, by_block: bool
) -> str:
    if all(c.score is None or c.model == FLOOR for c in shown):
        failed = "".join(f"; {c.model}: {c.problem}" for c in shown if c.problem)
        return f"no candidate is worth fitting: none was scored but {FLOOR}, which tells no spot from another{failed}"
    where = _tell_where(best, by_block=by_block)
    rest = "" if best.without_depth is None else f", {best.without_depth:.3f},"
    why = (
        "which is not told apart from the train mean"
        if is_floor_tied
        else f"which shuffled pairs may reach as well ({controls.chance}), and what is left without depth{rest} too "
        f"({controls.chance_without_depth})"
    )
    return (
        f"no candidate is worth fitting: the best, {best.model}, has Pearson {_score(best):.3f} on {where}, {why}. "
        "Add donors, check that images and spots belong together (hescribe data check), or fit a method by its name"
    )


def _tell_where(candidate: Candidate, *, by_block: bool) -> str:
    n = len(candidate.by_donor)
    return f"{n} blocks of one donor" if by_block else f"{n} held-out donor{'' if n == 1 else 's'}"
