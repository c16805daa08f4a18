"""``hescribe demo``: the main job on a synthetic cohort with known truth, offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.output import OUTPUT, command

if TYPE_CHECKING:
    from hescribe.data.cohort import Cohort

SEED = 0


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Examples: hescribe demo   |   hescribe demo --out my_demo")(demo)


@command
def demo(out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo")) -> None:
    """Run the main job on a synthetic cohort: benchmark, report, fit, predict an unseen section."""
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.results import Results  # noqa: PLC0415
    from hescribe.bench.runner import run_study  # noqa: PLC0415
    from hescribe.bench.study import Study  # noqa: PLC0415
    from hescribe.bench.task import PredictionTask  # noqa: PLC0415
    from hescribe.cli.scores import show_scores  # noqa: PLC0415
    from hescribe.data.folder import read_cohort, write_cohort  # noqa: PLC0415
    from hescribe.data.toy import toy_cohort  # noqa: PLC0415
    from hescribe.report.page import write_report  # noqa: PLC0415

    cohort_path = out / "cohort"
    OUTPUT.say("1 of 4  making a synthetic cohort: 6 donors, one of them kept aside")
    whole = toy_cohort(SEED, n_donors=6, n_spots=120)
    unseen = whole[len(whole) - 1]
    if not (cohort_path / "cohort.toml").exists():
        write_cohort(whole.where(lambda s: s.donor != unseen.donor), cohort_path)
    cohort = read_cohort(cohort_path)

    OUTPUT.say("2 of 4  scoring the ladder on held-out donors")
    results_path = out / "results"
    study = Study(cohort=str(cohort_path), out=str(results_path))
    run_study(PredictionTask(cohort, read_protocol(study.protocol)), study.models, results_path, study=study)
    results = Results(results_path)
    show_scores(results.scores)

    OUTPUT.say("3 of 4  fitting a model and predicting the donor that was kept aside")
    score, made = _predict_unseen(cohort, whole.where(lambda s: s.donor == unseen.donor), out)

    OUTPUT.say("4 of 4  writing the report")
    page = write_report(results)
    OUTPUT.result(
        {
            "out": str(out),
            "report": str(page),
            **{name: str(path) for name, path in made.items()},
            "score": score,
        },
        "\n" + "\n".join(f"{name:8s}{path}" for name, path in {"report": page, **made}.items()),
    )


def _predict_unseen(cohort: "Cohort", unseen: "Cohort", out: Path) -> "tuple[float | None, dict[str, Path]]":
    """Fit a model and predict a section it has never seen; return its score, and what was written."""
    from importlib.util import find_spec  # noqa: PLC0415 - the command line starts fast

    from hescribe.bench.fitting import fit_model, predict_table  # noqa: PLC0415
    from hescribe.bench.ladder import create_model  # noqa: PLC0415
    from hescribe.bench.model_folder import write_model  # noqa: PLC0415
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415
    from hescribe.cli.sources import place_of  # noqa: PLC0415
    from hescribe.data.folder import write_cohort  # noqa: PLC0415
    from hescribe.data.h5ad import write_h5ad  # noqa: PLC0415
    from hescribe.report.maps import write_map  # noqa: PLC0415
    from hescribe.report.model_card import write_cards  # noqa: PLC0415
    from hescribe.view.page import write_page  # noqa: PLC0415
    from hescribe.view.scene import read_scene  # noqa: PLC0415

    model, section = fit_model(create_model("color_ridge"), cohort, read_protocol("donor-v1")), unseen[0]
    write_model(out / "model", model, overwrite=True, also=lambda at: write_cards(model.info, at))
    write_cohort(unseen, out / "unseen", overwrite=True)
    table, folder = predict_table(model, section), out / "prediction"
    table.uns["hescribe"]["source"] = place_of(out / "unseen", section, folder)
    write_h5ad(table, folder / f"{section.id}.h5ad")
    made = {"map": folder / f"{section.id}.png", "model": out / "model"}
    write_map(made["map"], section, table)
    if find_spec("bokeh"):
        made["view"] = out / "view.html"
        write_page(read_scene(folder), made["view"])
    return model.info.score, made
