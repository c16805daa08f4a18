"""``hescribe predict``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.output import OUTPUT, command
from hescribe.cli.sources import dataset_of, place_of, read_sections
from hescribe.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

    from hescribe.bench.model_folder import FittedModel
    from hescribe.data.section import Section
    from hescribe.report.prediction import PredictedFacts


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Examples: hescribe predict M C --out P   |   hescribe predict M slide.png --mpp 0.5 --out P")(
        predict
    )


@command
def predict(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    source: Annotated[Path, typer.Argument(help="Cohort folder, a section of one (its h5ad), or an image.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: one h5ad and one map a section, and report.html.")],
    mpp: Annotated[float | None, typer.Option(help="Size of a pixel in um, if the image does not say.")] = None,
    pitch_um: Annotated[
        float | None, typer.Option(help="Distance of the spots laid on an image, in um; as in the training without it.")
    ] = None,
    at: Annotated[
        Path | None, typer.Option(help="Places on the image in place of a grid: CSV, or GeoJSON of nuclei or cells.")
    ] = None,
    spatialdata: Annotated[
        bool, typer.Option("--spatialdata", help="Write a SpatialData store (zarr) beside each h5ad.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the training spots that predictions rest on, one CSV a section.")
    ] = False,
    explain_gene: Annotated[
        str | None, typer.Option(help="Gene whose prediction in --explain-spot is drawn over the image it rests on.")
    ] = None,
    explain_spot: Annotated[str | None, typer.Option(help="Spot for --explain-gene, by its name.")] = None,
) -> None:
    """Predict expression; on a bare image, on a grid of spots over the tissue or at given places."""
    from hescribe.bench.fitting import check_explains, predict_table, write_neighbours  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.leakage import find_trained_sections  # noqa: PLC0415
    from hescribe.bench.model_folder import read_model  # noqa: PLC0415
    from hescribe.data.duplicates import take_print  # noqa: PLC0415
    from hescribe.data.h5ad import write_h5ad  # noqa: PLC0415
    from hescribe.report.maps import write_map  # noqa: PLC0415
    from hescribe.report.prediction import PAGE, describe_section, write_prediction_page  # noqa: PLC0415

    fitted = read_model(model)
    if explain:
        check_explains(fitted)
    dataset, sections = dataset_of(source), read_sections(source, mpp, pitch_um, at, usual_um=fitted.info.pitch_um)
    asked = _asked(fitted, sections, explain_gene, explain_spot)
    done, prints, facts = [], [], []
    left_out = [s.id for s in sections if s.image is None]
    for section in (s for s in sections if s.image is not None):
        table = predict_table(fitted, section)
        place = place_of(source, section, out)
        table.uns["hescribe"] |= {"source": place, "mpp": section.image.mpp}  # type: ignore[union-attr]
        write_h5ad(table, out / f"{section.id}.h5ad")
        write_map(out / f"{section.id}.png", section, table)
        if spatialdata:
            _write_store(out, section, table)
        if explain:
            write_neighbours(out / f"{section.id}.neighbours.csv", fitted, section)
        if section.id in asked:
            _draw_regions(out, fitted, section, *asked[section.id])
        done.append({"section": section.id, "n_spots": table.n_obs, "n_genes": table.n_vars})
        facts.append(describe_section(section, table, Path(place).name, out / f"{section.id}.png"))
        prints.append(take_print(section, dataset, frozenset(fitted.info.panel)))
    if not done:
        raise InputError(f"no section of {source} has an image; prediction needs one")
    seen = list(find_trained_sections(fitted.info, dataset, prints))
    write_prediction_page(out / PAGE, fitted.info, facts, seen)
    _tell(out / PAGE, facts, done, left_out, seen)


def _tell(
    page: Path, facts: "list[PredictedFacts]", done: list[dict[str, object]], left_out: list[str], seen: list[str]
) -> None:
    """Say what was predicted, what was left out, and what is to be doubted."""
    if left_out:
        OUTPUT.say(f"{len(left_out)} sections have no image and are left out: {', '.join(left_out)}")
    if seen:
        OUTPUT.say(f"the model was trained on the donors of {', '.join(seen)}: on new tissue it does not do as well")
    doubts = {f.id: list(f.doubts) for f in facts if f.doubts}
    for doubt in (d for of_section in doubts.values() for d in of_section):
        OUTPUT.say(doubt)
    data = {"out": str(page.parent), "report": str(page), "sections": done, "left_out": left_out, "trained_on": seen}
    OUTPUT.result({**data, "doubts": doubts})
    OUTPUT.table(done)


def _write_store(out: Path, section: "Section", table: "AnnData") -> None:
    """Write a prediction as SpatialData."""
    from hescribe.data.spatialdata_predicted import write_predicted  # noqa: PLC0415 - an extra
    from hescribe.prep.graph import pitch_um  # noqa: PLC0415

    assert section.image is not None
    path = out / f"{section.id}.zarr"
    write_predicted(table, section.image, path, section_id=section.id, diameter_um=0.9 * pitch_um(section))


def _asked(
    model: "FittedModel", sections: "list[Section]", gene: str | None, spot: str | None
) -> "dict[str, tuple[str, str]]":
    """Return the gene and the spot to explain in each section that has the spot.

    Raises
    ------
    InputError
        If only one of the two is given, or no section has such a spot; PanelError if the model lacks the gene.
    """
    from hescribe.bench.regions import check_asked  # noqa: PLC0415 - the command line starts fast

    if gene is None and spot is None:
        return {}
    if gene is None or spot is None:
        raise InputError("--explain-gene and --explain-spot go together: one prediction is explained at a time")
    with_image = [s for s in sections if s.image is not None]
    found = [s for s in with_image if spot in s.table.obs_names] or with_image[:1]
    for section in found:
        check_asked(model, section, spot, gene)
    return {s.id: (spot, gene) for s in found}


def _draw_regions(out: Path, model: "FittedModel", section: "Section", spot: str, gene: str) -> None:
    """Draw which regions of the image a prediction rests on."""
    from hescribe.bench.regions import cover_regions  # noqa: PLC0415 - the command line starts fast
    from hescribe.report.regions import write_regions  # noqa: PLC0415

    name = re.sub(r"[^\w.-]", "_", f"{section.id}.{gene}.{spot}")
    trust = str(model.info.scores[gene]["trust"])
    write_regions(out / f"{name}.png", section, cover_regions(model, section, spot, gene), trust)
