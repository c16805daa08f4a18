"""Find what a model, or its encoder, was trained on among the tissue that it is to be scored on, and refuse it."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from hescribe.bench.model_folder import ModelInfo, read_model
from hescribe.cards import EncoderCard, GeneEncoderCard
from hescribe.data.catalogue import find_same_tissue, load_catalogue
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import Print, find_marked, take_print
from hescribe.data.folder import read_index, read_section
from hescribe.data.validate import Finding
from hescribe.encode.base import create_encoder
from hescribe.encode.gene.base import GeneEncoder, donors_of
from hescribe.errors import HescribeError, LeakageError
from hescribe.progress import track


def find_trained_sections(info: ModelInfo, cohort: str, prints: Sequence[Print]) -> dict[str, str]:
    """Return the sections of donors that a model was trained on, and how that was seen.

    A donor is known by name within one dataset; under other names by the tissue of any of its
    sections: the counts of its spots, its image, or what the catalogue knows.

    Parameters
    ----------
    info
        Of the model.
    cohort
        Id of the dataset at hand.
    prints
        Its sections, the spots hashed on the model's panel.

    Returns
    -------
    Reason by section id.
    """
    reasons = {
        p.section: f"donor {p.donor} of {cohort} is one of its training donors"
        for p in prints
        if cohort == info.cohort and p.donor in info.donors
    }
    for pair in find_marked(prints, info.cohort, info.tissue):
        seen = f"{pair.other.section} (donor {pair.other.donor}) of {info.cohort}"
        reasons.setdefault(pair.one.section, f"it is its training section {seen} under another name: {pair.evidence}")
    donors = {p.donor: p.section for p in prints if p.section in reasons and p.donor != "unknown"}
    for p in prints:
        if p.donor in donors:
            reasons.setdefault(p.section, f"{donors[p.donor]}, of the same donor {p.donor}, was trained on")
    return reasons


def check_model(info: ModelInfo, cohort: str, prints: Sequence[Print]) -> None:
    """Refuse to score a model on donors that it was trained on.

    Parameters
    ----------
    info, cohort, prints
        As for ``find_trained_sections``.

    Raises
    ------
    LeakageError
        If any section is of a training donor, or the model's encoder was trained on the cohort; the message
        names both sides.
    """
    if info.encoder:
        _refuse(info.encoder["name"], info.encoder["trained_on"], cohort, [p.section for p in prints])
    if reasons := find_trained_sections(info, cohort, prints):
        raise LeakageError(
            f"{info.method}, trained on {info.cohort}, was trained on the donors of {len(reasons)} sections of "
            f"{cohort}: {_list(reasons)}; score it on donors it has not seen"
        )


def find_trained_dataset(trained_on: Iterable[str], cohort: str, sections: Sequence[str]) -> str | None:
    """Return how the data that an encoder was trained on overlap with a cohort, None if nothing says they do.

    Parameters
    ----------
    trained_on
        Ids of datasets, from the encoder's card.
    cohort
        Id of the dataset at hand.
    sections
        Ids of its sections.

    Examples
    --------
    >>> find_trained_dataset(("hest_1k",), "her2st", ["A1"])
    'hest_1k, which holds sections of her2st, as the catalogue says'
    >>> find_trained_dataset(("imagenet-1k",), "her2st", ["A1"]) is None
    True
    """
    own = {f"{cohort}/{s}" for s in sections}
    for dataset in trained_on:
        if dataset == cohort:
            return f"{cohort} itself"
        shared = next((g & own for g in find_same_tissue() if g & own and any(_dataset(n) == dataset for n in g)), None)
        if shared:
            return f"{dataset}, which holds the tissue of {min(shared & own)}, as the catalogue says"
        entry = load_catalogue().get(cohort)
        copies = [w for w in entry.warning if w.code == "duplicate_of"] if entry else []
        if entry and any(dataset in map(_dataset, w.of) and set(entry.concerned(w)) & set(sections) for w in copies):
            return f"{dataset}, which holds sections of {cohort}, as the catalogue says"
    return None


def find_leaks(path: Path, *, models: Sequence[Path] = (), encoders: Sequence[str] = ()) -> list[Finding]:
    """Return what a cohort's sections and donors have in common with what models and encoders were trained on.

    Parameters
    ----------
    path
        Cohort folder; sections that cannot be read are passed over.
    models
        Model folders.
    encoders
        Names, see ``create_encoder``.
    """
    record = read_index(path)
    ids = tuple(r.id for r in record.section)
    trained = {f"encoder {name}": create_encoder(name).card.trained_on for name in encoders}
    found = []
    for folder in models:
        info = read_model(folder).info
        reasons = find_trained_sections(info, record.id, _take_prints(path, frozenset(info.panel)))
        found += [
            Finding("error", f"model {folder} was trained on the donor of {section}: {reason}", (section,), "leak")
            for section, reason in reasons.items()
        ]
        if not info.tissue:
            text = f"model {folder} was fitted by an older version: only names of donors could be compared"
            found.append(Finding("warning", text, (), "leak"))
        if info.encoder:
            trained[f"encoder {info.encoder['name']} of model {folder}"] = tuple(info.encoder["trained_on"])
    for who, trained_on in trained.items():
        if reason := find_trained_dataset(trained_on, record.id, ids):
            found.append(Finding("error", f"{who} was trained on {reason}", ids, "leak"))
    return found


def _take_prints(path: Path, genes: frozenset[str]) -> list[Print]:
    prints, record = [], read_index(path)
    for entry in track(record.section, "comparing with the model"):
        with suppress(HescribeError):  # the check of the cohort tells what cannot be read
            section = read_section(entry, path)
            prints.append(take_print(section, record.id, genes, with_image=False))
            prints[-1] = take_print(section, record.id, genes)
    return prints


def check_encoder(card: EncoderCard, cohort: str, sections: Sequence[str]) -> None:
    """Refuse to score with an encoder that was trained on the cohort.

    Raises
    ------
    LeakageError
        If a dataset it was trained on holds the cohort's tissue; the message names both.
    """
    _refuse(card.name, card.trained_on, cohort, sections)


def check_gene_encoder(encoder: GeneEncoder, test: Cohort) -> None:
    """Refuse to score with an encoder of expression that was fitted on a donor of the test cohort, or trained on it.

    Parameters
    ----------
    encoder
        Fitted on a train cohort, or with published weights.
    test
        What it is to be scored on.

    Raises
    ------
    LeakageError
        If they have a donor in common, by name within one dataset, or a dataset that it was trained on holds the
        cohort's tissue.
    """
    card: GeneEncoderCard = encoder.card
    _refuse(card.name, card.trained_on, test.card.id, [s.id for s in test])
    fitted = set(getattr(encoder, "donors_", ()))
    if shared := [donor for donor in donors_of(test) if donor in fitted]:
        raise LeakageError(
            f"gene encoder {card.name} was fitted on {shared[0]}, a donor of the test cohort: its scores there would "
            "be too good; fit it on the fold's train cohort"
        )


def _refuse(encoder: str, trained_on: Iterable[str], cohort: str, sections: Sequence[str]) -> None:
    if reason := find_trained_dataset(trained_on, cohort, sections):
        raise LeakageError(
            f"encoder {encoder} was trained on {reason}: its scores on {cohort} would be too good; "
            "choose another encoder, or other data"
        )


def _dataset(name: str) -> str:
    return name.partition("/")[0]


def _list(reasons: dict[str, str]) -> str:
    first = [f"{section} ({reason})" for section, reason in list(reasons.items())[:3]]
    return ", ".join(first) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")
