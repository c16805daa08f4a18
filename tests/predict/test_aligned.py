"""A head on aligned embeddings: what it learns, and that nothing is chosen on spots the aligner has seen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hescribe import keys
from hescribe.align.infonce import InfoNCEAligner
from hescribe.cards import MethodCard
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict.aligned import AlignedPredictor
from hescribe.predict.ridge import ALPHAS

SMALL = InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), n_dims=16, epochs=20, lr=5e-3, batch_size=64)


@dataclass(kw_only=True)
class Parrot(Params):
    """Embeds spots that it has seen by their very expression, and others by noise."""

    name: ClassVar[str] = "parrot"
    card: ClassVar[MethodCard] = MethodCard(summary="remembers")

    def fit(self, train, *, val=None):
        self.seen_ = {s.id: s.table.layers[keys.TARGET] for s in train}
        return self

    def embed_image(self, section):
        noise = np.random.default_rng(0).normal(size=(section.n_spots, len(section.genes)))
        return self.seen_.get(section.id, noise).astype(np.float32)

    def embed_expression(self, section):
        return self.embed_image(section)


def split(cohort):
    return cohort.where(lambda s: s.donor != "D2"), cohort.where(lambda s: s.donor == "D2")


@pytest.mark.parametrize("head", ["ridge", "knn"])
def test_predicts_what_the_aligned_image_shows_of_a_new_donor(head, cohort):
    train, test = split(cohort)
    predicted = AlignedPredictor(aligner=SMALL, head=head).fit(train).predict(test[0].blind()).mean
    truth = test[0].layer(keys.TARGET)
    r = [np.corrcoef(truth[:, g], predicted[:, g])[0, 1] for g in range(6)]  # colour carries the first half of genes
    assert np.mean(r) > 0.25


def test_the_penalty_is_chosen_on_donors_that_the_aligner_has_not_seen(cohort):
    train, _ = split(cohort)
    fitted = AlignedPredictor(aligner=Parrot()).fit(train)
    assert fitted.alpha_ >= ALPHAS[4]  # were they seen, the embedding would be the answer, and any penalty a loss


def test_the_seed_is_the_aligners(cohort):
    train, test = split(cohort)
    one, two = (AlignedPredictor(aligner=SMALL, seed=s).fit(train).predict(test[0].blind()).mean for s in (1, 2))
    assert not np.allclose(one, two)


def test_an_unknown_head_is_refused(cohort):
    with pytest.raises(InputError, match="head of AlignedPredictor must be 'ridge' or 'knn', got 'tree'"):
        AlignedPredictor(aligner=SMALL, head="tree").fit(cohort)
