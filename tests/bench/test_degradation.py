"""What alignment costs expression prediction: names, pairing by donor, and donors of two cohorts kept apart."""

from dataclasses import replace

import pytest

from hescribe.bench.degradation import measure_degradation, name_models
from hescribe.bench.ladder import create_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.task import PredictionTask
from hescribe.errors import InputError
from hescribe.testing.cohorts import raw_colour_cohort

RULE = replace(read_protocol("donor-v1"), n_genes=12)
SMALL = "gene_encoder=pca:gene_encoder.n_dims=4"


def task(name, n_donors=2):
    cohort = raw_colour_cohort(n_donors=n_donors, sections_per_donor=1)
    return PredictionTask(replace(cohort, card=replace(cohort.card, id=name)), RULE)


def test_an_encoder_and_an_aligner_with_parameters_give_two_models():
    frozen, aligned = name_models("hub_model:uni", "siglip:epochs=3:gene_encoder=mlp", "knn")
    assert frozen == "knn:encoder=hub_model:uni"
    model = create_model(aligned)
    assert (model.head, model.aligner.name, model.aligner.encoder) == ("knn", "siglip", "hub_model:uni")
    assert (model.aligner.epochs, model.aligner.gene_encoder.name) == (3, "mlp")
    assert model.encoder_name() == create_model(frozen).encoder == "hub_model:uni"
    with pytest.raises(InputError, match="no head 'forest'; known: ridge, knn"):
        name_models("color", "infonce", "forest")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Colour of two cohorts, seen through four random directions: nearly all that colour says is lost."""
    tasks, out = [task("one", 3), task("two")], tmp_path_factory.mktemp("out")
    blind = f"infonce:epochs=0:n_dims=4:head=linear:{SMALL}"
    return measure_degradation(tasks, out, encoders=["color"], aligners=[blind], heads=["ridge"])


def test_four_directions_of_colour_predicts_worse_than_all(lines):
    plain = next(x for x in lines if x.metric == "pearson")
    assert plain.frozen.value > 0.2
    assert plain.change.value < -0.02
    assert plain.change.value == pytest.approx(plain.aligned.value - plain.frozen.value)


def test_donors_of_two_cohorts_count_apart_and_from_five_on_there_is_an_interval(lines):
    for x in lines:
        assert set(x.change.by_donor) == {
            "predict:one/D0", "predict:one/D1", "predict:one/D2", "predict:two/D0", "predict:two/D1",
        }  # fmt: skip
        assert x.change.low < x.change.value < x.change.high
