"""``hescribe plan``: what work takes that is too large to try."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.output import OUTPUT, command
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.launch.costs import Cost
    from hescribe.launch.plan import Stage

N_DIMS = 1024  # numbers of each side of a pair


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(
        epilog="Examples: hescribe plan --slides 10000 --encoder uni2 --gpus 8   |   "
        "hescribe plan --cells 100000 --model ridge --cores 256"
    )(plan)


@command
def plan(
    *,
    slides: Annotated[int | None, typer.Option(help="Slides to embed.")] = None,
    tiles: Annotated[int, typer.Option(help="Tiles of a slide.")] = 10_000,
    encoder: Annotated[str, typer.Option(help="Image encoder, or the card of one.")] = "efficientnet_lite0",
    pairs: Annotated[int | None, typer.Option(help="Pairs to train an aligner on, from disk.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of that training.")] = 20,
    aligner: Annotated[str, typer.Option(help="Aligner that is trained.")] = "infonce",
    cells: Annotated[int | None, typer.Option(help="Cells of a benchmark.")] = None,
    model: Annotated[str, typer.Option(help="Model of those cells.")] = "ridge",
    cores: Annotated[int, typer.Option(help="Processor cores, in all.")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs, in all.")] = 0,
    gpu: Annotated[str, typer.Option(help="Name of the GPU, where costs of several are known.")] = "",
    costs: Annotated[Path | None, typer.Option(help="TOML with costs of your own.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the encoder on this machine first, and remember it.")
    ] = False,
) -> None:
    """Say how many hours and terabytes work takes, and what holds it up, from measured costs."""
    from hescribe.launch.costs import measure_encoder, read_costs, resolve_encoder  # noqa: PLC0415 - starts fast
    from hescribe.launch.plan import Machines, Planner  # noqa: PLC0415

    if slides is None and pairs is None and cells is None and not measure:
        raise InputError("say what is planned: --slides, --pairs or --cells; or --measure an encoder")
    measured = measure_encoder(resolve_encoder(encoder)) if measure else None
    if measured is not None:
        OUTPUT.say(f"{measured.of}: {1000 * measured.seconds:.3g} ms a tile on a {measured.device}; remembered")
    planner = Planner(Machines(n_cores=cores, n_gpus=gpus, gpu=gpu), read_costs(costs))
    stages = []
    if slides is not None:
        stages += planner.slides(slides, tiles, encoder)
    if pairs is not None:
        stages += planner.pairs(pairs, epochs, aligner, N_DIMS)
    if cells is not None:
        stages += planner.cells(cells, model)
    _show(stages, measured)


def _show(stages: "list[Stage]", measured: "Cost | None") -> None:
    from hescribe.launch.plan import bottleneck, total_hours  # noqa: PLC0415 - the command line starts fast

    told = {"measured": measured and measured.model_dump()}
    if not stages:
        OUTPUT.result(told)
        return
    hours, terabytes, holds_up = total_hours(stages), sum(s.terabytes or 0.0 for s in stages), bottleneck(stages)
    facts = {"hours": hours, "terabytes": terabytes, "bottleneck": holds_up, "stages": [asdict(s) for s in stages]}
    OUTPUT.result({**facts, **told})
    OUTPUT.table(
        [
            {
                "stage": s.name,
                "number": f"{s.n:,.0f}",
                "on": s.on,
                "hours": _amount(s.hours),
                "TB": None if s.terabytes is None else _amount(s.terabytes),
            }
            for s in stages
        ]
    )
    for s in stages:
        OUTPUT.say(f"{s.name}: {s.note}")
    OUTPUT.say(f"{_amount(hours)} hours and {_amount(terabytes)} TB; what holds it up: {holds_up}")


def _amount(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
