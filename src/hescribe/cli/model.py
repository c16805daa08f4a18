"""``hescribe embed`` and ``fit``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hescribe.cli.aligner import fit_aligner, is_aligner
from hescribe.cli.embed_folder import embed_folder
from hescribe.cli.output import OUTPUT, command
from hescribe.cli.params import SetOption, parse_params
from hescribe.cli.sources import place_of, read_sections
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.bench.choice import Choice
    from hescribe.bench.model_folder import FittedModel
    from hescribe.bench.protocols import Protocol
    from hescribe.data.cohort import Cohort

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
    for section in read_sections(source, mpp, None, usual_um=pitch_um):
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
    stain: Annotated[
        str | None, typer.Option(help="Bring every image to the training's mean stain first: macenko or reinhard.")
    ] = None,
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

    if stain is not None and (method == AUTO or genes == ALL or is_aligner(method)):
        raise InputError("--stain is for one predictor on a panel of genes; not for auto, an aligner or --genes all")
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
        model = fit_model(with_stain(create_model(method), params, stain), data, rule, genes=panel)
    if genes == ALL:
        model = add_genes(model, data, rule)
    write_model(out, model, overwrite=overwrite, also=lambda folder: write_cards(model.info, folder))
    _tell_fit(out, model, data)


def with_stain(predictor: Any, params: "list[str] | None", stain: str | None) -> Any:
    """Return a predictor with its parameters, on images brought to one stain if that is asked for."""
    from hescribe.predict.stained import StainedPredictor  # noqa: PLC0415 - the command line starts fast

    predictor = predictor.with_params(**parse_params(params))
    return predictor if stain is None else StainedPredictor().with_params(predictor=predictor, stain=stain)


def _candidates(method: str, models: str | None, params: "list[str] | None") -> "tuple[str, ...]":
    """Return the one method, or the candidates of auto."""
    from hescribe.bench.auto import CANDIDATES  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.ladder import create_model, is_control  # noqa: PLC0415

    for name in (method, *(models or "").split(",")):
        if (file := name.strip().partition(":")[0]).endswith(".py"):
            raise InputError(
                f"{file} is a file, which a model folder cannot name; install it, see docs/add-a-method.md"
            )
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
