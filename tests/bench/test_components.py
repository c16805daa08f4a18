"""Components named by what they hold: dotted parameters, descriptions, and what is no name."""

import pytest

from hescribe.align.infonce import InfoNCEAligner
from hescribe.bench.components import create_component
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, UnknownNameError
from hescribe.predict.aligned import AlignedPredictor
from hescribe.predict.base import predictors


def test_a_description_gives_the_component_it_was_taken_from():
    aligner = InfoNCEAligner(gene_encoder=PCAEncoder(n_dims=7), fov_um=(55.0, 112.0))
    described = AlignedPredictor(aligner=aligner, head="knn").get_params()
    assert described["aligner"]["fov_um"] == [55.0, 112.0]  # as JSON gives it back
    again = create_component(predictors, "aligned", described)
    assert again == AlignedPredictor(aligner=aligner, head="knn")


def test_dotted_names_reach_what_a_default_component_holds():
    found = create_component(predictors, "aligned", {"aligner.gene_encoder.n_dims": 5, "aligner.lr": 0.1})
    assert found.aligner == InfoNCEAligner(gene_encoder=PCAEncoder(n_dims=5), lr=0.1)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"aligner": "infonse"}, UnknownNameError, "no aligner 'infonse'; did you mean 'infonce'"),
        ({"aligner.epoch": 1}, InputError, "no parameter 'epoch'; did you mean 'epochs'"),
        ({"head.depth": 1}, InputError, "no parameter 'head' that holds parameters"),
        ({"aligner": 3}, InputError, "aligner of AlignedPredictor must be Aligner, got 3"),
        ({"aligner": 3, "aligner.lr": 0.1}, InputError, "aligner 3 is no name"),
    ],
)
def test_what_is_no_component_is_refused_in_words(params, error, message):
    with pytest.raises(error, match=message):
        create_component(predictors, "aligned", params)
