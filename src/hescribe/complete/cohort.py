"""Complete a cohort: choose its genes as SpaRED does, fit on all of its sections, complete each."""

from dataclasses import replace

import numpy as np

from hescribe import keys
from hescribe.complete.base import Completer, complete
from hescribe.data.cohort import Cohort
from hescribe.data.validate import check_section
from hescribe.errors import InputError, SchemaError
from hescribe.prep.counts import log_normalise
from hescribe.prep.graph import spot_graph
from hescribe.prep.moran import morans_i
from hescribe.prep.spared import SparedPreparation
from hescribe.prep.spared_genes import top_of
from hescribe.progress import track

MAX_SEEN = 0.9  # of the spots, for a gene that shows what completion does


def to_best_genes(cohort: Cohort, n_genes: int) -> Cohort:
    """Return the cohort on the genes of highest Moran's I, highest first, and on the spots that SpaRED keeps.

    Parameters
    ----------
    cohort
        Sections with counts.
    n_genes
        How many genes; 0: all, on all spots.

    Returns
    -------
    Counts and depth as they were: the depth of a spot still counts the genes that are left out.

    Raises
    ------
    SchemaError
        If counts, names or places are wrong: all problems of all sections.
    InputError
        If no spot of a section is valid, or fewer genes pass SpaRED's filters.

    Examples
    --------
    >>> from hescribe.testing.cohorts import raw_colour_cohort
    >>> to_best_genes(raw_colour_cohort(), 2).genes
    ('GENE11', 'GENE8')
    """
    if problems := [p for s in cohort for p in check_section(s)]:
        raise SchemaError(f"cohort {cohort.card.id}", problems)
    if not n_genes:
        return cohort
    try:
        chosen = SparedPreparation(lengths="none", batch="none", n_genes=n_genes).fit(cohort)
    except InputError as error:
        raise InputError(f"{error}; or take all genes and spots with n_genes=0 (--genes 0)") from error
    return cohort.map(lambda s: chosen.choose(s)[0])


def complete_cohort(completer: Completer, cohort: Cohort) -> Cohort:
    """Return the cohort completed by a completer that is fitted on all of its sections, and say so on its card.

    Parameters
    ----------
    completer
        Fitted or not: it is fitted here.
    cohort
        Sections with counts; see ``complete`` for the layers that they get.
    """
    completer.fit(cohort)
    sections = tuple(complete(completer, s) for s in track(cohort, "completing sections"))
    said = f"Completed by {completer.name}, fitted on all of its sections: do not score a held-out section on layers "
    card = replace(cohort.card, warnings=(*cohort.card.warnings, f"{said}{keys.COMPLETED} or {keys.COMPLETED_SD}."))
    return replace(cohort, sections=sections, card=card)


def most_patterned(cohort: Cohort, n_genes: int) -> list[str]:
    """Return the genes with gaps whose expression has the highest Moran's I, mean over sections, highest first.

    A gene that is counted in more than 90 % of the spots has hardly a gap, and is taken where others do not suffice.
    """
    seen = [s.table.layers[keys.COUNTS] > 0 for s in cohort]
    share = np.sum([np.asarray(x.sum(axis=0)).ravel() for x in seen], axis=0) / sum(s.n_spots for s in cohort)
    moran = [morans_i(log_normalise(s.table.layers[keys.COUNTS], s.depth), spot_graph(s)) for s in cohort]
    n_defined = np.isfinite(moran).sum(axis=0)
    mean = np.where(n_defined > 0, np.nansum(moran, axis=0) / np.maximum(n_defined, 1), np.nan)
    order = top_of(cohort.genes, mean, len(cohort.genes))
    return [cohort.genes[i] for i in sorted(order, key=lambda i: share[i] > MAX_SEEN)][:n_genes]
