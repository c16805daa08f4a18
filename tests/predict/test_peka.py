"""PEKA: its loss, its clusters, and that the adapted features carry what the plain ones hide."""

import numpy as np
import pytest
import torch
from scipy import special

from hescribe import keys
from hescribe.errors import InputError, TrainingError
from hescribe.metrics.gene import correlate
from hescribe.predict._distil import Adapter, Distillation, adapt, cluster, distillation_loss
from hescribe.predict.peka import PekaPredictor, leading
from hescribe.predict.ridge import RidgePath
from hescribe.testing.cohorts import colour_cohort
from hescribe.train.loop import Recipe

N_NUISANCE = 4


def test_the_loss_is_the_weighted_sum_of_divergence_and_cross_entropy():
    """Against scipy, at the published T = 2 and share = 0.5."""
    rng = np.random.default_rng(0)
    student, teacher, own = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p, q = special.softmax(teacher / 2, axis=1), special.softmax(student / 2, axis=1)
    divergence = special.rel_entr(p, q).sum(axis=1).mean()
    entropy = -special.log_softmax(student, axis=1)[np.arange(5), own].mean()
    got = distillation_loss(*(torch.from_numpy(a) for a in (student, teacher, own)), temperature=2.0, share=0.5)
    assert got.item() == pytest.approx(0.5 * 4 * divergence + 0.5 * entropy)


def test_clusters_hold_ten_spots_on_average_and_are_numbered_without_gaps():
    teacher = np.random.default_rng(0).normal(size=(64, 3))
    label = cluster(teacher, 100, seed=0)
    assert sorted(set(label)) == list(range(label.max() + 1))
    assert label.max() + 1 <= 6
    np.testing.assert_array_equal(cluster(teacher[:5], 100, seed=0), 0)


def test_clusters_are_those_that_were_planted():
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], 40)
    label = cluster(np.eye(3)[truth] * 20 + rng.normal(size=(120, 3)), 3, seed=0)
    assert len({(a, b) for a, b in zip(truth, label, strict=True)}) == 3


def test_the_untrained_adapter_changes_nothing_and_numpy_computes_what_torch_does():
    adapter, x = Adapter(6, 2), np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_array_equal(adapter(torch.from_numpy(x)).detach().numpy(), x)
    torch.nn.init.normal_(adapter.up.weight)
    weights = {name: getattr(adapter, name).weight.detach().numpy() for name in ("down", "up")}
    expected = adapter(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(adapt(x, weights), expected, rtol=1e-5, atol=1e-6)


def test_the_adapter_lifts_a_signal_that_components_of_the_features_miss():
    """Nuisance fills the leading components. Only a teacher can say which faint direction matters."""

    def draw(seed):
        """Return features whose faintest direction says what all genes follow, and the genes."""
        own = np.random.default_rng(seed)
        state, nuisance = own.normal(size=(400, 1)), own.normal(size=(400, N_NUISANCE))
        x = 0.5 * state * faint + nuisance @ loud + 0.03 * own.normal(size=(400, 20))
        return x.astype(np.float32), (state + 0.3 * own.normal(size=(400, 5))).astype(np.float32)

    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(20, 20)))[0].T
    faint, loud = axes[0], axes[1 : N_NUISANCE + 1]
    (x, y), (x_new, y_new) = draw(1), draw(2)
    recipe = Recipe(batch_size=32, lr=1e-2, weight_decay=0.0)
    distillation = Distillation(n_clusters=20, rank=4, temperature=2.0, share=0.5, epochs=20, recipe=recipe)
    weights = distillation.fit(x, leading(y - y.mean(axis=0), 5)[1])

    def score(change):
        basis, z = leading(change(x), N_NUISANCE)
        (y_pred,) = RidgePath.fit(z, y).predict_each(change(x_new) @ basis, (1.0,))
        return correlate(y_new, y_pred).mean()

    best = correlate(y_new, (x_new @ faint)[:, None] * np.ones(5)).mean()
    assert abs(score(lambda a: a)) < 0.15
    assert score(lambda a: adapt(a, weights)) > 0.9 * best


def test_both_kinds_of_features_stand_side_by_side():
    cohort = colour_cohort()
    settings = {"encoder": "color", "alpha": 10.0, "epochs": 1, "n_clusters": 3}
    adapted, both = (PekaPredictor(**settings, reads=r).fit(cohort) for r in ("adapted", "both"))
    assert both.basis_.shape[0] == 2 * adapted.basis_.shape[0]
    assert np.isfinite(both.predict(cohort[0].blind()).mean).all()


def test_the_penalty_is_chosen_on_spots_that_the_student_has_not_seen(monkeypatch):
    """Every inner fold trains its own student."""
    cohort, seen = colour_cohort(), []
    learn = PekaPredictor._learn

    def spy(self, train):
        seen.append(train.donors)
        return learn(self, train)

    monkeypatch.setattr(PekaPredictor, "_learn", spy)
    PekaPredictor(encoder="color", epochs=1, n_clusters=3).fit(cohort)
    assert seen == [("D1", "D2"), ("D0", "D2"), ("D0", "D1"), ("D0", "D1", "D2")]


def test_a_gene_that_is_constant_in_train_is_predicted_constant():
    def level(section):
        table = section.table.copy()
        table.layers[keys.TARGET][:, 3] = 2.5
        return section.with_table(table)

    cohort = colour_cohort().map(level)
    mean = PekaPredictor(encoder="color", alpha=1.0, epochs=1).fit(cohort).predict(cohort[0].blind()).mean
    np.testing.assert_allclose(mean[:, 3], 2.5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"n_clusters": 0}, "n_clusters"),
        ({"temperature": 0.0}, "temperature"),
        ({"share": 2.0}, "share"),
    ],
)
def test_parameters_out_of_range_are_named(changes, said):
    with pytest.raises(InputError, match=f"{said} of PekaPredictor must be"):
        PekaPredictor(encoder="color", **changes).fit(colour_cohort())


def test_a_step_too_large_says_what_to_do():
    with pytest.raises(TrainingError, match="lower lr"):
        PekaPredictor(encoder="color", lr=1e30, alpha=1.0).fit(colour_cohort())
