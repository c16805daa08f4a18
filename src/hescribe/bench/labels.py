"""Train labels whose missing values a completer fills: SpaRED's second claim, that completion before training helps.

Mejia et al., MICCAI 2024, arXiv:2407.13027. The completer is fitted on the train sections alone, and nothing that is
scored is filled.
"""

from collections.abc import Callable

import numpy as np

from hescribe import keys
from hescribe.complete.base import complete, completers
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.prep.counts import TARGET_SUM

# A section and counts of its spots, shape (n_spots, n_genes), to what would be its target with these counts.
ToTarget = Callable[[Section, np.ndarray], np.ndarray]


def fill_labels(train: Cohort, completer: str, to_target: ToTarget) -> Cohort:
    """Return train sections whose target is filled where no count was measured.

    Parameters
    ----------
    train
        With counts and target; spots that are not kept stay as they are.
    completer
        Name of the completer, with its defaults. What it says of a gene's share of a spot's counts is taken for
        the count that was missed.
    to_target
        The unit of the target.
    """
    fitted = completers.create(completer).fit(train)

    def fill(section: Section) -> Section:
        table = section.table.copy()
        share = np.expm1(complete(fitted, section).table.layers[keys.COMPLETED]) / TARGET_SUM
        counts = np.asarray(table.layers[keys.COUNTS])
        gaps = (counts == 0) & section.kept[:, None]
        values = to_target(section, np.where(gaps, share * section.depth[:, None], counts))
        table.layers[keys.TARGET] = np.where(gaps, values, table.layers[keys.TARGET]).astype(np.float32)
        return section.with_table(table)

    return train.map(fill)
