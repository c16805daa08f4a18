"""``hescribe data prepare``: a cohort's layers as a published pipeline makes them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hescribe.cli.output import OUTPUT, command
from hescribe.cli.params import SetOption, parse_params
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.data.cohort import Cohort
    from hescribe.prep.spared import SparedPreparation


def add_to(app: typer.Typer) -> None:
    """Add the command to ``hescribe data``."""
    app.command(
        epilog="Examples:  hescribe data prepare cohort --train-donors A,B --out prepared   |   "
        "hescribe data prepare cohort --recipe spared-2024 --genes 128 --out published"
    )(prepare)


@command
def prepare(  # noqa: PLR0917 - one argument per option of the command
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="Cohort folder.")],
    out: Annotated[Path, typer.Option("--out", help="Cohort folder to write; must be new or empty.")],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="spared-train: fitted on train alone; spared-2024: on all sections, as published."
        ),
    ] = "spared-train",
    genes: Annotated[int, typer.Option("--genes", min=0, help="Genes to keep; 0: 128 of more than 320, else 32.")] = 0,
    train_donors: Annotated[
        str | None, typer.Option("--train-donors", help="Donors to fit on, comma-separated; without it, all.")
    ] = None,
    train_sections: Annotated[
        str | None, typer.Option("--train-sections", help="Sections to fit on, comma-separated; without it, all.")
    ] = None,
    gene_list: Annotated[
        Path | None, typer.Option("--gene-list", help="Text file of the genes to retain, one a line; no filter then.")
    ] = None,
    gene_table: Annotated[
        Path | None, typer.Option("--gene-table", help="Lengths of the genes; without it, GENCODE's of the organism.")
    ] = None,
    params: SetOption = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag of the command
        bool, typer.Option("--overwrite", help="Replace the cohort at --out.")
    ] = False,
) -> None:
    """Filter spots and genes, and write log, filled, batch-corrected and centred layers beside the counts."""
    from hescribe.data.folder import check_target, read_cohort, write_cohort  # noqa: PLC0415 - keeps --help fast
    from hescribe.prep.spared import find_recipe  # noqa: PLC0415 - as above
    from hescribe.prep.spared_genes import read_gene_list  # noqa: PLC0415 - as above

    check_target(out, overwrite=overwrite)
    given: dict[str, Any] = {"n_genes": genes, **parse_params(params)}
    if gene_list is not None:
        given["wildcard_genes"] = read_gene_list(gene_list)
    if gene_table is not None:
        given["gene_table"] = str(gene_table)
    preparation = find_recipe(recipe).with_params(**given)
    before = read_cohort(cohort)
    preparation.fit(before, train=_train_sections(before, train_donors, train_sections))
    after = preparation.transform(before)
    write_cohort(after, out, overwrite=overwrite)
    _report({"out": str(out), "recipe": recipe, **_to_facts(before, after, preparation)})


def _train_sections(cohort: "Cohort", donors: str | None, sections: str | None) -> list[str] | None:
    """Return the ids of the train sections; None: all."""
    from hescribe.bench.study import parse_list  # noqa: PLC0415 - keeps --help fast

    if donors is not None and sections is not None:
        raise InputError("give --train-donors or --train-sections, not both")
    wanted = parse_list(donors)
    if wanted is None:
        return parse_list(sections)
    if unknown := sorted(set(wanted) - set(cohort.donors)):
        raise InputError(f"the cohort has no donor {unknown[0]!r}; it has {', '.join(cohort.donors)}")
    return [s.id for s in cohort if s.donor in wanted]


def _to_facts(before: "Cohort", after: "Cohort", preparation: "SparedPreparation") -> dict[str, Any]:
    """Return what each step left, ready for JSON."""
    from hescribe import keys  # noqa: PLC0415 - keeps --help fast

    panels, moran = preparation.panels_, preparation.facts_[keys.D_LOG1P_MORAN]
    n_spots = sum(s.n_spots for s in after)
    n_measured = sum(int(s.table.layers[keys.MASK].sum()) for s in after)
    return {
        "params": preparation.get_params(),
        "train_sections": list(preparation.train_),
        "n_genes": {
            "measured": len(before.genes),
            "passed": len(panels.passed),
            "with_length": len(panels.retained),
            "kept": len(panels.genes),
        },
        "genes_without_length": sorted(set(panels.passed) - set(panels.retained)),
        "n_spots": n_spots,
        "dropped_spots": {b.id: n for b, a in zip(before, after, strict=True) if (n := b.n_spots - a.n_spots)},
        "measured_share_of_passed": preparation.measured_share_,
        "missing_share": 1 - n_measured / (n_spots * len(after.genes)),
        "moran": {g: float(m) for g, m in ((after.genes[0], moran[0]), (after.genes[-1], moran[-1]))},
        "layers": list(after[0].table.layers),
        "new_batches": list(preparation.new_batches(after)),
        "uses_truth": preparation.uses_truth,
        "note": after.card.warnings[-1],
    }


def _report(facts: dict[str, Any]) -> None:
    OUTPUT.table([{"step": k.replace("_", " "), "genes": n} for k, n in facts["n_genes"].items()])
    if without := facts["genes_without_length"]:
        more = ", ..." if len(without) > 10 else ""
        OUTPUT.say(f"{len(without)} genes have no length and are left out: {', '.join(without[:10])}{more}")
    if facts["new_batches"]:
        what = "corrected by their own expression" if facts["params"]["correct_new_batch"] else "left as they are"
        OUTPUT.say(f"batches that the fit has not seen, {what}: {', '.join(facts['new_batches'])}")
    OUTPUT.say(f"note: {facts['note']}")
    moran = " to ".join(f"{value:.3f} ({gene})" for gene, value in facts["moran"].items())
    OUTPUT.result(
        facts,
        f"{facts['out']}: {facts['n_spots']} spots ({sum(facts['dropped_spots'].values())} left out), "
        f"{facts['n_genes']['kept']} genes with Moran's I {moran}, {facts['missing_share']:.1%} of values missing",
    )
