"""How deep predictors are trained, kept and asked: what the batch holds, what is saved, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hescribe import keys
from hescribe.errors import FormatError, InputError, TrainingError
from hescribe.predict._network import Arrays, Design
from hescribe.predict.mlp import MLPPredictor
from hescribe.testing.cohorts import colour_cohort
from hescribe.train.loop import Recipe


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort().map(lambda s: s.with_kept(np.arange(s.n_spots) % 5 > 0))


def numbered(section, _state):
    """Show each spot its section and its row, so that a batch says where it came from."""
    return Arrays((np.column_stack([np.full(section.n_spots, int(section.id[1:])), np.arange(section.n_spots)]),))


class Nothing(torch.nn.Module):
    """Answers 0, by one weight that does not matter."""

    def __init__(self, n_genes):
        super().__init__()
        self.weight, self.n_genes = torch.nn.Parameter(torch.zeros(1)), n_genes

    def forward(self, where):
        return self.weight * where[:, :1].float() * torch.zeros(1, self.n_genes)


def watch(cohort, **changes):
    """Return the batches of one epoch: where the spots are, their answers, and the rows that have one."""
    seen = []

    def loss(network, inputs, answers, rows):
        seen.append((inputs[0].numpy().copy(), [a.numpy().copy() for a in answers], rows.numpy().copy()))
        return network(*inputs).sum()

    design = Design(
        start=lambda _: {}, read=numbered, network=lambda _, n: Nothing(n), recipe=Recipe(batch_size=32), loss=loss
    )
    design = replace(design, **changes)
    return design.fit(cohort, (1,))[0], seen


def test_every_kept_spot_is_learned_from_once_an_epoch_with_its_own_answer(cohort):
    fitted, seen = watch(cohort)
    by_id = {int(s.id[1:]): s for s in cohort}
    places = np.concatenate([where for where, *_ in seen])
    assert len({tuple(p) for p in places}) == len(places) == sum(s.kept.sum() for s in cohort)
    for where, (difference,), rows in seen:
        np.testing.assert_array_equal(rows, np.arange(len(where)))
        for (section, row), values in zip(where, difference, strict=True):
            expected = by_id[section].table.layers[keys.TARGET][row] - fitted.mean
            assert by_id[section].kept[row]
            np.testing.assert_allclose(values, expected, atol=1e-6)


def test_a_whole_section_is_a_step_and_only_kept_rows_have_answers(cohort):
    fitted, seen = watch(cohort, whole=True)
    assert len(seen) == len(cohort)
    for where, (difference,), rows in seen:
        section = next(s for s in cohort if int(s.id[1:]) == where[0, 0])
        np.testing.assert_array_equal(where[:, 1], np.arange(section.n_spots))
        np.testing.assert_array_equal(rows, np.flatnonzero(section.kept))
        np.testing.assert_allclose(difference, section.layer(keys.TARGET) - fitted.mean, atol=1e-6)


def test_further_answers_are_those_of_the_kept_spots(cohort):
    _, seen = watch(cohort, whole=True, answers=lambda s: (np.arange(s.n_spots, dtype=float),))
    for _, (_, row), rows in seen:
        np.testing.assert_array_equal(row, rows)


def test_without_differences_the_values_themselves_are_learned(cohort):
    fitted, seen = watch(cohort, whole=True, differences=False)
    assert not fitted.mean.any()
    values = np.concatenate([a[0] for _, a, _ in seen])
    np.testing.assert_allclose(np.sort(values.ravel()), np.sort(cohort.stack(keys.TARGET).ravel()))


def test_a_section_without_kept_spots_teaches_nothing(cohort):
    one_less = cohort.map(lambda s: s.with_kept(np.zeros(s.n_spots, dtype=bool)) if s.id == "s0" else s)
    _, seen = watch(one_less)
    assert 0 not in np.concatenate([where for where, *_ in seen])[:, 0]


def test_a_cohort_without_kept_spots_is_refused(cohort):
    none = cohort.map(lambda s: s.with_kept(np.zeros(s.n_spots, dtype=bool)))
    with pytest.raises(InputError, match="no spot of the train cohort is kept"):
        watch(none)


@pytest.mark.parametrize("harm", ["missing", "left over", "of another shape"])
def test_weights_that_are_not_those_of_the_network_are_refused(cohort, harm):
    fitted = MLPPredictor(encoder="color", epochs=1, n_hidden=8).fit(cohort)
    name = next(iter(fitted.weights_))
    if harm == "missing":
        del fitted.weights_[name]
    else:
        fitted.weights_["other" if harm == "left over" else name] = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(FormatError, match="the weights are not those of this network"):
        fitted.predict(cohort[0].blind())


def test_a_training_that_diverges_keeps_the_weights_of_the_last_whole_epoch(cohort):
    """Three epochs are good, the fourth is not."""
    n_steps = -(-sum(int(s.kept.sum()) for s in cohort) // 32)
    calls = []

    def loss(network, inputs, answers, rows):
        calls.append(1)
        said = network(inputs[0].float())[rows]
        value = torch.nn.functional.mse_loss(said, answers[0])
        return value * float("nan") if len(calls) > 3 * n_steps + 2 else value

    design = Design(
        start=lambda _: {}, read=numbered, network=lambda _, n: torch.nn.Linear(2, n), recipe=Recipe(batch_size=32),
        loss=loss,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="the loss is nan at epoch 4, step 2; lower lr") as told:
        design.fit(cohort, (5,))
    calls.clear()
    (expected,) = design.fit(cohort, (3,))
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(told.value.weights[name].numpy(), weights)


def test_a_training_that_fails_in_its_first_epoch_has_no_good_weights(cohort):
    design = Design(
        start=lambda _: {}, read=numbered, network=lambda _, n: torch.nn.Linear(2, n), recipe=Recipe(),
        loss=lambda network, *_: network.weight.sum() * float("nan"),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="epoch 1, step 0") as told:
        design.fit(cohort, (1,))
    assert told.value.weights is None
