"""Under whose terms a fitted model stands: those of its training data and of its encoder, and whether to pass it on."""

import re
from typing import Any

from hescribe.bench.model_folder import FittedModel, ModelInfo
from hescribe.data.catalogue import load_catalogue
from hescribe.predict.base import Explains

PERMISSIVE = frozenset({"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "mit"})  # ask for credit
SHAREABLE = PERMISSIVE | {"cc-by-sa-4.0", "gpl-3.0"}  # may be passed on under the same licence


def short_licence(licence: str) -> str:
    """Return the name of a licence in lower case, without a remark in brackets behind it.

    Examples
    --------
    >>> short_licence("CC-BY-4.0 (as the metadata record it)")
    'cc-by-4.0'
    """
    return re.sub(r"^(\S+) \([^()]*\)$", r"\1", licence.strip()).lower()


def inherited_licences(info: ModelInfo) -> list[tuple[str, str]]:
    """Return the licences that a model is under, each with whose it is.

    A licence that asks for no more than credit gives way to a stricter one; the training data's stands where neither
    is strict.

    Examples
    --------
    >>> from types import SimpleNamespace as Info
    >>> uni = {"name": "uni", "licence": "CC-BY-NC-ND-4.0"}
    >>> inherited_licences(Info(licence="CC-BY-4.0", cohort="her2st", encoder=uni))
    [('CC-BY-NC-ND-4.0', 'encoder uni')]
    """
    of_data = (info.licence, f"training data {info.cohort}")
    of_encoder = [(info.encoder["licence"], f"encoder {info.encoder['name']}")] if info.encoder else []
    strict = [x for x in (of_data, *of_encoder) if short_licence(x[0]) not in PERMISSIVE]
    return strict or [of_data]


def holds_training_spots(predictor: Any) -> bool:
    """Return whether the weights of a predictor hold the expression of training spots."""
    return isinstance(predictor, Explains) and bool(getattr(predictor, "keep_spots", True))


def find_terms(model: FittedModel) -> list[str]:
    """Return what stands against passing a model on, a sentence each; empty if nothing does."""
    info = model.info
    entry, licence = load_catalogue().get(info.cohort), short_licence(info.licence)
    is_open = info.synthetic or (licence in SHAREABLE if entry is None else entry.terms == "open")
    found = []
    if not is_open:
        unknown = licence == "unknown" if entry is None else entry.terms == "unknown"
        said = "have no known licence" if unknown else f"are under {info.licence}, which is not open"
        also = "; its weights hold the expression of training spots" if holds_training_spots(model.predictor) else ""
        found.append(f"its training data ({info.cohort}) {said}{also}")
    is_trained = getattr(model.predictor, "tuning", "") == "full" and not getattr(model.predictor, "frozen", False)
    if info.encoder and is_trained and short_licence(info.encoder["licence"]) not in SHAREABLE:
        found.append(
            f"its weights hold encoder {info.encoder['name']}, changed, which is under {info.encoder['licence']}"
        )
    return found
