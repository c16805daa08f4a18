"""A small aligner, a donor that it did not see, and how well it finds the spots of that donor."""

import numpy as np

from hescribe.align.base import to_pairs
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.metrics.retrieval import score_retrieval

SMALL = {
    "encoder": "color",
    "gene_encoder": PCAEncoder(n_dims=4),
    "n_dims": 16,
    "epochs": 40,
    "lr": 5e-3,
    "batch_size": 64,
}


def split(cohort):
    return cohort.where(lambda s: s.donor != "D2"), cohort.where(lambda s: s.donor == "D2")


def auc(aligner, cohort):
    rows = score_retrieval(to_pairs(aligner, cohort), pools=("within_section",), sizes=(None,))
    return np.mean([r.value for r in rows if r.metric == "auc"])
