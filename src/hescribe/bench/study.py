"""A study: one flat TOML that says what is run. Field default < study file < ``--set`` and options."""

import difflib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hescribe._support import write_whole
from hescribe.align.base import aligners
from hescribe.bench.ladder import LADDER
from hescribe.complete.base import completers
from hescribe.data.toml_file import load_toml, to_toml
from hescribe.errors import InputError

SUITES = ("prediction", "completion", "spared", "hescape", "spade")
LISTS = ("models", "seeds", "completers", "encoders", "gene_encoders")
READ_BY = {
    "completers": "spared", "encoders": "hescape", "gene_encoders": "hescape", "features": "spade", "labels": "spade",
}  # fmt: skip
HESCAPE_CONTROLS = ("ridge_retriever", "density_only")  # what an aligner must beat, and what darkness alone finds
SLIDE_MODELS = ("linear_probe", "mean_pool", "abmil")
# Those of SpaRED's benchmark, beside what any predictor must pass.
SPARED = (
    "mean",
    "color_ridge",
    "encoder_ridge",
    "context_ridge",
    "bleep",
    "sepal",
    "eggn",
    "egn",
    "stnet",
    "shufflenet",
    "vit_delta",
    "histogene",
    "hist2st",
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a benchmark run does.

    Parameters
    ----------
    cohort
        Cohort folder; of the suite ``"hescape"`` several, separated by commas; of ``"spade"`` none.
    out
        Folder of the results.
    suite
        What is scored: ``"prediction"`` from images, ``"completion"`` of counts, ``"spared"``: prediction on measured
        and on completed train labels, ``"hescape"``: retrieval between images and expression, or ``"spade"``: what
        slides are.
    protocol
        Name of the protocol, one of the suite's.
    models
        Rungs, controls or predictors; of the suite ``"completion"`` completers, of ``"hescape"`` aligners, of
        ``"spade"`` slide models.
    seeds
        Seeds of the models that have one.
    completers
        Of the suite ``"spared"``: what fills the train labels, each in turn. ``mean`` shows what any filling does:
        a model that learned gaps as 0 is off wherever something was measured.
    encoders, gene_encoders
        Of the suite ``"hescape"``: what every aligner is fitted on, each with each.
    features, labels
        Of the suite ``"spade"``: folder of bags, and CSV with a row a slide.
    """

    cohort: str = ""
    out: str
    suite: str = "prediction"
    protocol: str = "donor-v1"
    models: tuple[str, ...] = LADDER
    seeds: tuple[int, ...] = (0,)
    completers: tuple[str, ...] = ("mean", "spackle")
    encoders: tuple[str, ...] = ("efficientnet_lite0",)
    gene_encoders: tuple[str, ...] = ("pca",)
    features: str = ""
    labels: str = ""


def read_study(path: Path | None, **options: Any) -> Study:
    """Return the study of a file, with options on top; what neither says is the default of its suite.

    By default predictors are run under ``donor-v1``, the whole ladder, completers under ``complete-v1``, all of them,
    the predictors of SpaRED's benchmark under ``spared-2024``, all aligners under ``donor-v1``, and slide models under
    ``slides-v1`` with five seeds.

    Parameters
    ----------
    path
        TOML file; None for options only.
    options
        Fields given on the command line; those that are None are not given.

    Raises
    ------
    InputError
        If a key is unknown (with a suggestion), of the wrong type, a list is empty or names
        something twice, there is no such suite, one is set that the suite does not read, or cohort or out is missing.
    """
    content = load_toml(path) if path else {}
    values = content | {k: v for k, v in options.items() if v is not None}
    known = [f.name for f in fields(Study)]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"study {path or ''} has an unknown key {key!r}; {hint}")
        wanted = list if key in LISTS else str
        if not isinstance(value, (wanted, tuple) if wanted is list else str):
            raise InputError(f"study key {key} must be a {wanted.__name__}, got {value!r}")
    for key in ("features", "labels", "out") if values.get("suite") == "spade" else ("cohort", "out"):
        if key not in values:
            raise InputError(f"the study names no {key}; give --{key} or set it in the study file")
    for key in LISTS:
        if key in values:
            values[key] = _checked_list(key, tuple(values[key]))
    study = Study(**(_defaults(values.get("suite", "prediction")) | values))
    for field in fields(Study):
        reader = READ_BY.get(field.name, study.suite)
        if reader != study.suite and getattr(study, field.name) != field.default:
            raise InputError(f"study key {field.name} is read by the suite {reader} alone, and this is {study.suite}")
    return study


def _defaults(suite: str) -> dict[str, Any]:
    """Return what the defaults of a suite are where they are not those of ``Study``."""
    if suite not in SUITES:
        raise InputError(f"there is no suite {suite!r}; known: {', '.join(SUITES)}")
    if suite == "spade":
        return {"protocol": "slides-v1", "models": SLIDE_MODELS, "seeds": tuple(range(5))}
    if suite == "spared":
        return {"protocol": "spared-2024", "models": SPARED}
    if suite == "hescape":
        return {"models": (*aligners, *HESCAPE_CONTROLS)}
    return {"protocol": "complete-v1", "models": tuple(completers)} if suite == "completion" else {}


def _checked_list(key: str, items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the models or seeds of a study: at least one, none twice, names or numbers from 0 on."""
    for item in items:
        right = type(item) is int and item >= 0 if key == "seeds" else type(item) is str
        if not right:
            raise InputError(f"study key {key} holds {item!r}, which is no {'seed' if key == 'seeds' else 'name'}")
    if not items:
        raise InputError(f"study key {key} is empty; leave it out for the default")
    if twice := sorted({i for i in items if items.count(i) > 1}):
        raise InputError(f"study key {key} names {twice[0]!r} twice")
    return items


def write_study(study: Study, path: Path) -> None:
    """Write the resolved study beside its rows."""
    with write_whole(path) as tmp:
        tmp.write_text(to_toml(asdict(study)))


def parse_list(text: str | None, kind: type = str) -> list[Any] | None:
    """Return the items of a comma-separated option, None if it was not given.

    Raises
    ------
    InputError
        If an item is not of the kind wanted.
    """
    if text is None:
        return None
    try:
        return [kind(item.strip()) for item in text.split(",") if item.strip()]
    except ValueError as error:
        items = "whole numbers" if kind is int else "names"
        raise InputError(f"{text!r} is no comma-separated list of {items}") from error
