"""How the command line shows the catalogue: the list of datasets, and one dataset."""

from hescribe.cli.output import OUTPUT
from hescribe.data.catalogue import load_catalogue
from hescribe.data.dataset_card import Caution, Entry, Source

SHORT = {"Homo sapiens": "human", "Mus musculus": "mouse"}
COLLECTIONS = {
    "spared": "SpaRED: Visium datasets with its published splits",
    "hescape": "HESCAPE: Xenium panels with its published splits",
    "hest": "HEST-1k: its table is read from a file of yours",
    "other": "Others",
}


def list_datasets() -> None:
    """Show every dataset, by collection."""
    entries = list(load_catalogue().values())
    OUTPUT.result({"datasets": [_to_row(e) for e in entries]})
    for collection, heading in COLLECTIONS.items():
        rows = [_to_line(e) for e in entries if e.collection == collection]
        OUTPUT.table(rows, title=f"\n{heading} ({len(rows)})")
    OUTPUT.say("? donors: not known. hescribe data show ID shows a dataset, with its known defects")


def show_dataset(entry: Entry) -> None:
    """Show one dataset: facts, sections, sources, defects."""
    OUTPUT.result(entry.model_dump(mode="json"))
    facts = {
        "is": f"{entry.organism}, {entry.organ}, {entry.technology}",
        "licence": entry.licence if entry.licence == entry.terms else f"{entry.licence} [{entry.terms}]",
        "cite": f"{entry.citation}{entry.doi and f', doi:{entry.doi}'}",
        "donors": _describe_donors(entry),
        "published": ", ".join(f"{k} {v}" for k, v in entry.published.model_dump().items() if v) or "no numbers",
    }
    OUTPUT.table([{"what": k, "said": v} for k, v in facts.items()], title=f"{entry.id}: {entry.title}")
    OUTPUT.table(_to_section_rows(entry), title="\nSections")
    OUTPUT.table([_to_source_row(s) for s in entry.source], title="\nSources")
    OUTPUT.table([_to_warning_row(w) for w in entry.warning], title="\nKnown defects")


def _to_row(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "collection": entry.collection,
        "title": entry.title,
        "organism": entry.organism,
        "organ": entry.organ,
        "technology": entry.technology,
        "n_sections": len(entry.section) or entry.published.n_sections,
        "n_donors": len(entry.donors) if entry.donors_known and entry.section else None,
        "donors_known": entry.donors_known,
        "licence": entry.licence,
        "terms": entry.terms,
        "gated": entry.gated,
        "warnings": sorted({w.code for w in entry.warning}),
    }


def _to_line(entry: Entry) -> dict[str, object]:
    """Return a row that fits 100 columns with the longest id."""
    row = _to_row(entry)
    organism = ", ".join(SHORT.get(o, o) for o in entry.organism.split(", "))
    technology = {"technology": entry.technology} if entry.collection == "other" else {}
    return {
        "id": entry.id,
        "tissue": f"{organism} {entry.organ}",
        **technology,
        "sections": row["n_sections"],
        "donors": str(row["n_donors"] or entry.published.n_patients) if entry.donors_known else "?",
        "terms": f"{entry.terms}, gated" if entry.gated else entry.terms,
        "defects": len(entry.warning),
    }


def _describe_donors(entry: Entry) -> str:
    known = f"{len(entry.donors)} known" if entry.donors else "not listed here" if entry.donors_known else "unknown"
    return f"{known}. {entry.donors_note}".removesuffix(" ")


def _to_section_rows(entry: Entry) -> list[dict[str, object]]:
    """Return one row a section, without the columns that no section fills."""
    columns = ("id", "donor", "split", "role", "chip", "organ", "condition", "mpp")
    filled = [c for c in columns if c == "id" or {getattr(s, c) for s in entry.section} - {None, "main"}]
    return [{c: str(v) if (v := getattr(s, c)) is not None else None for c in filled} for s in entry.section]


def _to_source_row(source: Source) -> dict[str, object]:
    sizes = [f.size for f in source.file if f.size is not None]
    return {
        "host": source.kind,
        "record": source.record,
        "version": source.version[:10] or None,
        "files": f"{len(source.file)}, {sum(sizes) / 1e6:.0f} MB" if source.file else "listed by the host",
        "gated": "yes" if source.gated else "no",
        "page": source.page,
        "holds": source.note or ", ".join(source.only) or None,
    }


def _to_warning_row(warning: Caution) -> dict[str, object]:
    shown = ", ".join(warning.sections[:4]) + (" ..." if len(warning.sections) > 4 else "")
    return {"code": warning.code, "sections": shown or "all", "what": warning.text}
