"""``hescribe embed``, ``fit`` and ``predict``."""

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hescribe.cli.aligner import fit_aligner, is_aligner
from hescribe.cli.embed_folder import embed_folder
from hescribe.cli.output import OUTPUT, command
from hescribe.cli.params import SetOption, parse_params
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.bench.choice import Choice
    from hescribe.bench.model_folder import FittedModel
    from hescribe.bench.protocols import Protocol
    from hescribe.data.cohort import Cohort
    from hescribe.data.section import Section

AUTO = "auto"  # in place of a method: pick one
PANEL, ALL = "panel", "all"  # genes to predict
N_SHOWN = 6  # donors with a column of their own in the table of candidates


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Examples: hescribe embed C --encoder color   |   hescribe embed slide.svs --encoder color")(
        embed
    )
    app.command(epilog="Examples: hescribe fit auto C --out M   |   hescribe fit ridge C --out M --set encoder=color")(
        fit
    )
    app.command(epilog="Examples: hescribe predict M C --out P   |   hescribe predict M slide.png --mpp 0.5 --out P")(
        predict
    )


@command
def embed(
    source: Annotated[Path, typer.Argument(help="Cohort folder, an image, or a folder of slides.")],
    *,
    encoder: Annotated[
        str, typer.Option(help="Image encoder, name:model for the generic ones; or the folder of a fitted aligner.")
    ] = "efficientnet_lite0",
    mpp: Annotated[float | None, typer.Option(help="Size of a pixel in um, if the image does not say.")] = None,
    pitch_um: Annotated[float, typer.Option(help="Distance between spots on a bare image, in um.")] = 112.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one file a section; without it the cache is filled.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="h5ad: a table of spots; h5: a bag of tiles, as slide tools read it.")
    ] = "h5ad",
    launch: Annotated[
        str | None, typer.Option(help="Where slides of a folder are embedded: local, ray or slurm, as of bench run.")
    ] = None,
) -> None:
    """Embed the patches of a cohort, an image or many slides; the features are cached for fit, predict and bench."""
    from hescribe.bench import embedded  # noqa: PLC0415 - the command line starts fast
    from hescribe.data.folder import INDEX, read_index  # noqa: PLC0415
    from hescribe.encode.base import create_encoder  # noqa: PLC0415

    embedded.check_format(file_format)
    if source.is_dir() and not (source / INDEX).exists():
        embed_folder(source, out, encoder=encoder, mpp=mpp, pitch_um=pitch_um, file_format=file_format, launch=launch)
        return
    if launch is not None:
        raise InputError("--launch is for a folder of slides; a cohort or an image is embedded in this process")
    cohort, made_by = read_index(source).id if source.is_dir() else "", create_encoder(encoder)
    done = []
    for section in _sections(source, mpp, pitch_um):
        if section.image is None:
            OUTPUT.say(f"{section.id} has no image and is left out")
            continue
        found = embedded.embed(section, made_by, cohort)
        far = {} if found.far is None else {"n_far": int(found.far.sum())}
        done.append({"section": section.id, "n_spots": section.n_spots, "n_dims": found.x.shape[1], **far})
        if out is not None:
            place = place_of(source, section, out)
            embedded.write(out / f"{section.id}.{file_format}", found, encoder, source=place)
    OUTPUT.result({"encoder": encoder, "sections": done, "out": None if out is None else str(out)})
    OUTPUT.table(done)


@command
def fit(
    method: Annotated[
        str, typer.Argument(help="Predictor or rung, see hescribe list predictors; auto picks one; or an aligner.")
    ],
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.")],
    *,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    protocol: Annotated[str, typer.Option(help="Protocol that fixes spots and gene choice.")] = "donor-v1",
    genes: Annotated[
        str, typer.Option(help="panel: as the protocol chooses; all: every measured gene; or a file, one gene a line.")
    ] = PANEL,
    params: SetOption = None,
    models: Annotated[
        str | None, typer.Option(help="Candidates of auto, comma-separated, from the simplest on.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
) -> None:
    """Fit a predictor on all donors, and score each gene on held-out donors; or an aligner, scored by retrieval."""
    from hescribe.bench.all_genes import add_genes, check_gene_wise  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.auto import fit_chosen  # noqa: PLC0415
    from hescribe.bench.fitting import fit_model  # noqa: PLC0415
    from hescribe.bench.ladder import create_model  # noqa: PLC0415
    from hescribe.bench.model_folder import check_target, write_model  # noqa: PLC0415
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415
    from hescribe.data.folder import read_cohort  # noqa: PLC0415
    from hescribe.prep.spared_genes import read_gene_list  # noqa: PLC0415
    from hescribe.report.model_card import write_cards  # noqa: PLC0415

    if is_aligner(method):
        fit_aligner(method, cohort, out=out, protocol=protocol, genes=genes, params=params, overwrite=overwrite)
        return
    check_target(out, overwrite=overwrite)
    candidates = _candidates(method, models, params)
    for name in candidates if genes == ALL else ():
        check_gene_wise(create_model(name))
    panel = None if genes in {PANEL, ALL} else read_gene_list(Path(genes))
    data, rule = read_cohort(cohort), read_protocol(protocol)
    if method == AUTO:
        model = fit_chosen(_choose(data, rule, candidates, panel), data, rule, genes=panel)
    else:
        predictor: Any = create_model(method)
        model = fit_model(predictor.with_params(**parse_params(params)), data, rule, genes=panel)
    if genes == ALL:
        model = add_genes(model, data, rule)
    write_model(out, model, overwrite=overwrite)
    write_cards(model.info, out)
    _tell_fit(out, model, data)


def _candidates(method: str, models: str | None, params: "list[str] | None") -> "tuple[str, ...]":
    """Return the one method, or the candidates of auto."""
    from hescribe.bench.auto import CANDIDATES  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.ladder import create_model, is_control  # noqa: PLC0415

    if method != AUTO:
        if models is not None:
            raise InputError(f"--models lists the candidates of auto; {method} is fitted as it is")
        if is_control(create_model(method)):
            raise InputError(f"{method} is a control, not a predictor: it cannot be fitted for use")
        return (method,)
    if params:
        raise InputError("--set is for one method; give auto its candidates with parameters, as --models knn:k=36")
    return CANDIDATES if models is None else tuple(m.strip() for m in models.split(",") if m.strip())


def _choose(
    data: "Cohort", rule: "Protocol", candidates: "tuple[str, ...]", panel: "tuple[str, ...] | None"
) -> "Choice":
    """Pick what is worth fitting, and show what was looked at."""
    from hescribe.bench.auto import choose_model  # noqa: PLC0415 - the command line starts fast

    choice = choose_model(data, rule, candidates, genes=panel)
    first = choice.candidates[0].by_donor
    columns = first if len(first) <= N_SHOWN else {}
    shown = [
        {
            "candidate": c.model, "Pearson": c.score, **{d: c.by_donor.get(d) for d in columns},
            "without depth": c.without_depth, "behind": c.behind, "margin": c.margin, "": c.problem or c.verdict,
        }
        for c in choice.candidates
    ]  # fmt: skip
    OUTPUT.table(shown)
    OUTPUT.say(choice.rule)
    return choice


def _tell_fit(out: Path, model: "FittedModel", cohort: "Cohort") -> None:
    """Say where a model is, what it was not fitted on, how it scored and how far its genes can be trusted."""
    counts: dict[str, int] = {}
    for gene in model.info.scores.values():
        counts[gene["trust"]] = counts.get(gene["trust"], 0) + 1
    choice = model.info.choice
    n_left_out = len(cohort) - model.info.n_sections
    data = {
        "out": str(out), "n_sections": model.info.n_sections, "n_left_out": n_left_out,
        "method": model.info.method, "score": model.info.score, "n_genes": len(model.info.genes),
        "trust": counts, "choice": None if choice is None else asdict(choice),
    }  # fmt: skip
    said = ", ".join(f"{n} {trust}" for trust, n in counts.items())
    unscored = "not scored: one donor only" if len(model.info.donors) < 2 else "no gene has a defined score"
    score = unscored if model.info.score is None else f"Pearson {model.info.score:.3f} on held-out donors"
    reason = "" if choice is None else f"{choice.reason}\n"
    if n_left_out:
        lost = sorted(set(cohort.donors) - set(model.info.donors))
        donors = f", and with them donor{'s' * (len(lost) > 1)} {', '.join(lost)}" if lost else ""
        OUTPUT.say(f"{n_left_out} of {len(cohort)} sections have no image or too few spots and are left out{donors}")
    if model.info.undefined:
        OUTPUT.say(model.info.undefined)
    if model.info.interval is not None:
        OUTPUT.say(model.info.interval.sentence)
    OUTPUT.result(data, f"{reason}{out}: {score}; genes: {said}")


@command
def predict(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    source: Annotated[Path, typer.Argument(help="Cohort folder, a section of one (its h5ad), or an image.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: one h5ad and one map a section.")],
    mpp: Annotated[float | None, typer.Option(help="Size of a pixel in um, if the image does not say.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the training spots that predictions rest on, one CSV a section.")
    ] = False,
    explain_gene: Annotated[
        str | None, typer.Option(help="Gene whose prediction in --explain-spot is drawn over the image it rests on.")
    ] = None,
    explain_spot: Annotated[str | None, typer.Option(help="Spot for --explain-gene, by its name.")] = None,
) -> None:
    """Predict expression; on a bare image, on a grid of spots over the tissue."""
    from hescribe.bench.fitting import check_explains, predict_table, write_neighbours  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.leakage import find_trained_sections  # noqa: PLC0415
    from hescribe.bench.model_folder import read_model  # noqa: PLC0415
    from hescribe.data.duplicates import take_print  # noqa: PLC0415
    from hescribe.data.h5ad import write_h5ad  # noqa: PLC0415
    from hescribe.report.maps import write_map  # noqa: PLC0415

    fitted = read_model(model)
    if explain:
        check_explains(fitted)
    dataset, sections = _dataset_of(source), _sections(source, mpp, fitted.info.pitch_um)
    asked = _asked(fitted, sections, explain_gene, explain_spot)
    done, left_out = [], []
    prints, doubts = [], {}
    for section in sections:
        if section.image is None:
            left_out.append(section.id)
            continue
        table = predict_table(fitted, section)
        table.uns["hescribe"] |= {"source": place_of(source, section, out), "mpp": section.image.mpp}
        write_h5ad(table, out / f"{section.id}.h5ad")
        write_map(out / f"{section.id}.png", section, table)
        if explain:
            write_neighbours(out / f"{section.id}.neighbours.csv", fitted, section)
        if section.id in asked:
            _draw_regions(out, fitted, section, *asked[section.id])
        done.append({"section": section.id, "n_spots": table.n_obs, "n_genes": table.n_vars})
        prints.append(take_print(section, dataset, frozenset(fitted.info.panel)))
        doubts[section.id] = list(table.uns["hescribe"].get("doubts", ()))
    if not done:
        raise InputError(f"no section of {source} has an image; prediction needs one")
    if left_out:
        OUTPUT.say(f"{len(left_out)} sections have no image and are left out: {', '.join(left_out)}")
    seen = list(find_trained_sections(fitted.info, dataset, prints))
    if seen:
        OUTPUT.say(f"the model was trained on the donors of {', '.join(seen)}: on new tissue it does not do as well")
    for doubt in (d for of_section in doubts.values() for d in of_section):
        OUTPUT.say(doubt)
    data = {"out": str(out), "sections": done, "left_out": left_out, "trained_on": seen}
    OUTPUT.result({**data, "doubts": {section: found for section, found in doubts.items() if found}})
    OUTPUT.table(done)


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


def _dataset_of(source: Path) -> str:
    """Return the id of the cohort that a folder is or a section's file belongs to; empty for a bare image."""
    from hescribe.data.folder import INDEX, read_index  # noqa: PLC0415 - the command line starts fast

    folder = source if source.is_dir() else source.resolve().parent.parent
    is_cohort = source.is_dir() or (source.suffix == ".h5ad" and (folder / INDEX).is_file())
    return read_index(folder).id if is_cohort else ""


def place_of(source: Path, section: "Section", out: Path) -> str:
    """Return where the section or its image is, seen from the folder of the prediction."""
    from hescribe.data.folder import SECTIONS  # noqa: PLC0415 - the command line starts fast

    place = source / SECTIONS / f"{section.id}.h5ad" if source.is_dir() else source
    return os.path.relpath(place.resolve(), out.resolve())


def _sections(source: Path, mpp: float | None, pitch_um: float) -> "list[Section]":
    """Return the sections of a cohort folder, one section of it, or the grid on an image."""
    from hescribe.data.folder import find_section, read_cohort  # noqa: PLC0415 - the command line starts fast
    from hescribe.data.slide import open_image  # noqa: PLC0415
    from hescribe.prep.tissue import grid_section  # noqa: PLC0415

    if mpp is not None and (source.is_dir() or source.suffix == ".h5ad"):
        raise InputError("--mpp is for a bare image; the sections of a cohort have the scale of their import")
    if source.is_dir():
        return list(read_cohort(source))
    if source.suffix == ".h5ad":
        return [find_section(source)]
    return [grid_section(open_image(source, mpp), source.stem, pitch_um)]
