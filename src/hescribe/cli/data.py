"""``hescribe data``: bring data in, look at it, check it."""

from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli import check, convert, prepare, qupath
from hescribe.cli.output import OUTPUT, command, plural
from hescribe.cli.params import SetOption, parse_params

app = typer.Typer(no_args_is_help=True, help="Bring data in, look at it, check it.")
check.add_to(app)
convert.add_to(app)
prepare.add_to(app)
qupath.add_to(app)

MANY = 20  # spots left out are named up to here; --json names all


@app.command(
    "import",
    epilog="Examples:  hescribe data import her2st --reader st --out cohort   |   "
    "hescribe data import outs --reader visium --mpp 0.5 --out cohort",
)
@command
def import_(  # noqa: PLR0917 - one argument per option of the command
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or file of the dataset.")],
    reader: Annotated[str, typer.Option("--reader", help="Format; see hescribe list readers.")],
    out: Annotated[Path, typer.Option("--out", help="Cohort folder to write; must be new or empty.")],
    params: SetOption = None,
    mpp: Annotated[
        float | None,
        typer.Option("--mpp", help="Size of a pixel of every image, in um; without it, as the data states it."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="TOML with image, scale, donor and masks of each section.")
    ] = None,
    card: Annotated[
        str | None,
        typer.Option("--card", help="Id in the catalogue; without it, the dataset is recognised by its files."),
    ] = None,
    copy_images: Annotated[  # noqa: FBT002 - a flag of the command
        bool, typer.Option("--copy-images", help="Copy the images into the cohort; else they stay where they are.")
    ] = False,
    overwrite: Annotated[  # noqa: FBT002 - as above
        bool, typer.Option("--overwrite", help="Replace the cohort at --out.")
    ] = False,
) -> None:
    """Turn a dataset into a cohort: one panel, one scale, every check passed."""
    from hescribe.data.importing import import_cohort  # noqa: PLC0415 - keeps --help fast

    report = import_cohort(
        source,
        reader,
        out,
        params=parse_params(params),
        mpp=mpp,
        manifest=manifest,
        card=card,
        copy_images=copy_images,
        overwrite=overwrite,
    )
    cohort, n_without = report.cohort, len(report.without_image)
    for section, spots in report.dropped_spots.items():
        named = ", ".join(spots[:MANY]) + (", ..." if len(spots) > MANY else "")
        OUTPUT.say(f"{section}: {len(spots)} spots left out, not in all of its files or beyond its image: {named}")
    for note in report.notes:
        OUTPUT.say(f"note: {note}")
    OUTPUT.result(
        {
            "out": str(out),
            "n_sections": len(cohort),
            "n_donors": len(cohort.donors),
            "n_spots": sum(s.n_spots for s in cohort),
            "n_genes": len(cohort.genes),
            "n_genes_dropped": report.n_genes_dropped,
            "without_image": list(report.without_image),
            "dropped_spots": {k: list(v) for k, v in report.dropped_spots.items()},
            "scale": {s.id: {"mpp": s.card.mpp, "source": s.card.mpp_source} for s in cohort},
            "notes": list(report.notes),
        },
        f"{out}: {plural(len(cohort), 'section')} of {plural(len(cohort.donors), 'donor')}, "
        f"{sum(s.n_spots for s in cohort)} spots, {len(cohort.genes)} genes in all sections "
        f"({report.n_genes_dropped} others left out), {plural(n_without, 'section')} without image",
    )


@app.command(
    epilog="Examples:  hescribe data fetch her2st --out her2st   |   "
    'hescribe data fetch hest_1k --out hest --only "HEST_v*.csv" --accept-licence'
)
@command
def fetch(  # noqa: PLR0917 - one argument per option of the command
    dataset: Annotated[str, typer.Argument(metavar="ID", help="Dataset; see hescribe list datasets.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; one that was begun is continued.")],
    accept_licence: Annotated[  # noqa: FBT002 - a flag of the command
        bool, typer.Option("--accept-licence", help="You have read the terms, where the licence is not open.")
    ] = False,
    only: Annotated[str, typer.Option("--only", help="Pattern of the paths wanted.")] = "*",
    offline: Annotated[  # noqa: FBT002 - as above
        bool, typer.Option("--offline", help="Use what was fetched before, and no network.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=32, help="Files at once.")] = 4,
    extract: Annotated[  # noqa: FBT002 - as above
        bool, typer.Option("--extract", help="Unpack each zip and tar into a folder beside it.")
    ] = False,
) -> None:
    """Fetch a dataset of the catalogue: terms first, resumed where it was cut, every file checked."""
    from hescribe.data.fetch import extract_fetched, fetch_dataset  # noqa: PLC0415 - keeps --help fast

    report = fetch_dataset(
        dataset, out, only=only, accept_licence=accept_licence, offline=offline, jobs=jobs, tell=OUTPUT.say
    )
    folders = extract_fetched(report) if extract else ()
    OUTPUT.result(
        {
            "dataset": dataset,
            "out": str(out),
            "new": list(report.new),
            "kept": list(report.kept),
            "n_bytes": report.n_bytes,
            "extracted": [str(f) for f in folders],
        },
        f"{out}: {len(report.new)} files fetched, {len(report.kept)} were there, {report.n_bytes / 1e6:.1f} MB"
        + (f"; unpacked {', '.join(str(f) for f in folders)}" if folders else ""),
    )


@app.command(epilog="Examples:  hescribe data show cohort   |   hescribe data show her2st --json")
@command
def show(
    what: Annotated[str, typer.Argument(metavar="COHORT|ID", help="Cohort folder, or a dataset of the catalogue.")],
) -> None:
    """Show a cohort (sections, spots, image, scale) or a dataset of the catalogue (sources, splits, defects)."""
    from hescribe.cli.catalogue import show_dataset  # noqa: PLC0415 - keeps --help fast
    from hescribe.data.catalogue import find_entry, load_catalogue  # noqa: PLC0415 - as above
    from hescribe.data.folder import INDEX, read_index  # noqa: PLC0415 - as above

    path = Path(what)
    if not (path / INDEX).is_file() and (what in load_catalogue() or not (path.exists() or path.name != what)):
        show_dataset(find_entry(what))
        return
    record = read_index(path)
    OUTPUT.table(
        [
            {
                "section": s.id,
                "donor": s.donor,
                "organ": s.organ,
                "technology": s.technology,
                "spots": s.n_spots,
                "image": "yes" if s.image else "no",
                "um per px": s.mpp,
                "scale from": s.mpp_source,
            }
            for s in record.section
        ],
        f"{record.id}: {record.title or 'no title'}, {record.n_genes} genes, licence {record.licence}"
        + (", SYNTHETIC" if record.synthetic else ""),
    )
    OUTPUT.result(record.model_dump(mode="json"), "\n".join(f"warning: {w}" for w in record.warnings) or None)
