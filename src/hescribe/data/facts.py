"""What the cards of a section say, as one line of JSON that files of other formats can carry."""

import json
from dataclasses import asdict
from typing import Any

from hescribe.cards import DatasetCard
from hescribe.data.section import Section
from hescribe.data.toml_file import Record, TechnologyName, check_record
from hescribe.data.untrusted import parse_json
from hescribe.errors import FormatError, SchemaError

FACTS = "hescribe"  # key under which a converted file keeps them


class SectionFacts(Record):
    """Facts about a section that its table, places and scale do not hold.

    Parameters
    ----------
    technology, organ, organism, pitch_um
        As in ``SectionCard``.
    dataset
        Card of its cohort.
    """

    technology: TechnologyName
    organ: str
    organism: str
    pitch_um: float | None
    dataset: DatasetCard


def write_facts(section: Section, dataset: DatasetCard) -> str:
    """Return the facts of a section and its cohort as JSON."""
    card = section.card
    facts = {"technology": card.technology.name, "organ": card.organ, "organism": card.organism}
    return json.dumps(facts | {"pitch_um": card.pitch_um, "dataset": asdict(dataset)})


def read_facts(text: object, where: str) -> dict[str, Any]:
    """Return the facts as fields of a reader's section, empty if the file carries none.

    Raises
    ------
    SchemaError
        If ``text`` is there but is not what ``write_facts`` makes.

    Examples
    --------
    >>> read_facts(None, "a.h5ad")
    {}
    """
    if text is None:
        return {}
    try:
        content = parse_json(str(text), f"what {FACTS} wrote about the section")
    except FormatError as error:
        raise SchemaError(where, [str(error)]) from error
    if not isinstance(content, dict):
        raise SchemaError(where, [f"what {FACTS} wrote about the section is damaged: it must be a table of facts"])
    facts = check_record(content, SectionFacts, where)
    return {name: getattr(facts, name) for name in SectionFacts.model_fields}
