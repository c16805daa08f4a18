"""Maps of a finished run: for each donor one section, measured beside predicted."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from hescribe.bench.predicted import read_scored_cohort
from hescribe.bench.results import Results
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.report.maps import TRUST_ORDER, GeneMap, measure, section_figure

N_BEST = 2  # most trusted genes drawn; a gene of median score stands beside them


def donor_maps(results: Results, model: str, trust: pd.DataFrame) -> Iterator[tuple[Section, list[str], Figure]]:
    """Yield the first section of each donor with the genes drawn and the figure.

    The two most trusted genes of the fold's panel are drawn, and one of median score.

    Parameters
    ----------
    results
        Of a run.
    model
        Whose predictions are drawn.
    trust
        From ``trust_table``, with or without trust classes.

    Raises
    ------
    InputError
        If the cohort is not the one that was scored, or no prediction was kept.
    DataAccessError
        If the cohort is not there any more.
    """
    rule = results.protocol
    if rule.changes_target or rule.pool != "section":
        raise InputError(f"protocol {rule.name} scores something else than the expression that maps show")
    predictions = results.predictions(model)
    if not predictions:
        raise InputError(f"no predictions of {model} were kept")
    own = results.rows.query("model == @model and metric == 'pearson' and gene != ''")
    scored = own.drop_duplicates(["section", "gene"]).set_index("gene")  # the first seed, in panel order
    cohort = read_scored_cohort(results)
    for donor in sorted(scored["donor"].unique()):
        section = next(s for s in cohort if s.donor == donor and s.id in predictions)
        scores = scored.loc[scored["section"] == section.id, "value"]
        genes = choose_genes(trust, set(scores.index))
        measured = measure(section, genes, min_counts=rule.min_counts)
        maps = [
            GeneMap(
                gene=gene, predicted=predictions[section.id][:, scores.index.get_loc(gene)], measured=measured[:, i],
                note=_note(trust, gene, float(scores[gene]), is_typical=i >= N_BEST),
                trust=str(trust.loc[gene, "trust"]) if "trust" in trust else "untested",
            )
            for i, gene in enumerate(genes)
        ]  # fmt: skip
        yield section, genes, section_figure(section, maps)


def choose_genes(trust: pd.DataFrame, panel: set[str]) -> list[str]:
    """Return the two most trusted genes and one of median score.

    Within a trust class, genes scored for more donors come first, then those of higher score.

    Parameters
    ----------
    trust
        From ``trust_table``.
    panel
        Genes that were predicted for the section.
    """
    there = trust[trust.index.isin(panel) & trust["pearson"].notna()]
    if there.empty:
        raise InputError("no gene has a defined score")
    order = there["trust"].map(TRUST_ORDER) if "trust" in there else 0
    ranked = there.assign(order=order).sort_values(["order", "n_donors", "pearson"], ascending=[True, False, False])
    everywhere = there[there["n_donors"] == there["n_donors"].max()]["pearson"].sort_values()
    best, typical = list(ranked.index[:N_BEST]), everywhere.index[len(everywhere) // 2]
    return best if typical in best else [*best, typical]


def _note(trust: pd.DataFrame, gene: str, score: float, *, is_typical: bool) -> str:
    said = str(trust.loc[gene, "trust"]) if "trust" in trust else "not tested against chance"
    return f"{'a gene of median score: ' if is_typical else ''}{said}; Pearson {score:.2f} in this section"
