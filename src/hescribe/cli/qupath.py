"""``hescribe data label`` and ``hescribe data qupath``: regions in, predicted spots out."""

from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command, plural
from hescribe.errors import InputError

N_GENES = 20  # that are written where none are named


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``hescribe data``."""
    app.command(epilog="Example:  hescribe data label cohort --section A1 --regions A1.geojson --out labelled")(label)
    app.command(epilog="Example:  hescribe data qupath prediction --genes ERBB2,KRT5 --out spots")(qupath)


@command
def label(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.")],
    *,
    section: Annotated[str, typer.Option(help="Section that the regions were drawn on.")],
    regions: Annotated[Path, typer.Option(help="GeoJSON, as QuPath exports annotations.")],
    out: Annotated[Path, typer.Option(help="Cohort folder to write; may be the same with --overwrite.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the cohort at --out.")] = False,
) -> None:
    """Give each spot of a section the class of the region it lies in, for domains, analyses and the viewer."""
    from hescribe import keys  # noqa: PLC0415 - the command line starts fast
    from hescribe.data.folder import read_cohort, write_cohort  # noqa: PLC0415
    from hescribe.data.geojson import with_regions  # noqa: PLC0415

    data = read_cohort(cohort)
    if section not in {s.id for s in data}:
        raise InputError(f"cohort {cohort} has no section {section!r}; it has {', '.join(s.id for s in data)}")
    labelled = data.map(lambda s: with_regions(s, regions) if s.id == section else s)
    write_cohort(labelled, out, overwrite=overwrite)
    found = next(s for s in labelled if s.id == section).table.obs[keys.REGION].value_counts()
    counts = {str(name): int(n) for name, n in found.items() if n}
    said = ", ".join(f"{plural(n, 'spot')} of {name}" for name, n in counts.items())
    OUTPUT.result({"out": str(out), "section": section, "regions": counts}, f"{out}: section {section} has {said}")


@command
def qupath(
    prediction: Annotated[Path, typer.Argument(metavar="DIR", help="What hescribe predict wrote.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: one GeoJSON and one OME-TIFF a section.")],
    genes: Annotated[str | None, typer.Option(help="Comma-separated; the 20 best predicted ones without it.")] = None,
) -> None:
    """Write predicted spots as detections that QuPath opens on the slide, and as a heat map of known scale."""
    from hescribe import keys  # noqa: PLC0415 - the command line starts fast
    from hescribe.data.geojson import write_geojson  # noqa: PLC0415
    from hescribe.data.heatmap import write_heatmap  # noqa: PLC0415
    from hescribe.data.predicted import read_predicted  # noqa: PLC0415
    from hescribe.prep.graph import spacing_um  # noqa: PLC0415

    if not prediction.is_dir():
        raise InputError(f"{prediction} is no folder; give what hescribe predict wrote")
    files = sorted(prediction.glob("*.h5ad"))
    if not files:
        raise InputError(f"{prediction} holds no predicted section (*.h5ad)")
    written = []
    for file in files:
        table = read_predicted(file)
        named = [g.strip() for g in genes.split(",") if g.strip()] if genes else _best(table.var)
        diameter = 0.9 * spacing_um(table.obsm[keys.SPATIAL])  # in pixels, as the places are
        spots, heat = out / f"{file.stem}.geojson", out / f"{file.stem}.ome.tif"
        write_geojson(table, spots, named, diameter_px=diameter)
        write_heatmap(table, heat, named, spacing_um=spacing_um(table.obsm[keys.SPATIAL_UM]))
        written += [str(spots), str(heat)]
    OUTPUT.result({"written": written}, "\n".join(written))


def _best(var: "object") -> list[str]:
    """Return the genes of highest cross-validated score."""
    import pandas as pd  # noqa: PLC0415 - the command line starts fast

    assert isinstance(var, pd.DataFrame)
    ranked = var.sort_values("pearson", ascending=False) if "pearson" in var else var
    return [str(g) for g in ranked.index[:N_GENES]]
