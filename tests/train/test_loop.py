"""The training loop learns, repeats itself, and stops at a loss that is not finite."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe.errors import InputError, TrainingError  # noqa: E402
from hescribe.train.inner import choose, inner_scores  # noqa: E402
from hescribe.train.loop import AdamW, Recipe, train_network  # noqa: E402


def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def fit(recipe, snapshots=(1, 60)):
    torch.manual_seed(1)
    network = torch.nn.Linear(4, 1)
    x, y = problem()
    loss = torch.nn.MSELoss()
    return network, train_network(network, lambda a, b: loss(network(a), b), (x, y), recipe, snapshots=snapshots)


def test_it_learns_a_line():
    network, _ = fit(Recipe(lr=0.05, weight_decay=0.0, batch_size=50))
    np.testing.assert_allclose(network.weight.detach().numpy()[0], [1.0, -2.0, 0.5, 0.0], atol=0.02)


def test_adamw_steps_as_torch_does():
    torch.manual_seed(3)
    start = torch.randn(5, 3)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimisers = AdamW([ours], lr=0.03, weight_decay=0.1), torch.optim.AdamW([theirs], lr=0.03, weight_decay=0.1)
    for step in range(20):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = None
            (torch.sin(weight * (step + 1)) ** 2).sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_training_does_not_import_the_compiler():
    code = (
        "import sys, torch; from hescribe.train.loop import AdamW, Recipe, train_network; n = torch.nn.Linear(2, 1); "
        "train_network(n, lambda a: n(a).square().mean(), (torch.ones(8, 2),), Recipe(), snapshots=(1,)); "
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_seed_repeats_and_another_does_not():
    first, second, other = (fit(Recipe(seed=s))[1][0]["weight"] for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_snapshots_are_the_weights_of_their_epochs():
    _, (early, late) = fit(Recipe(), snapshots=(1, 3))
    assert torch.equal(early["weight"], fit(Recipe(), snapshots=(1,))[1][0]["weight"])
    assert not torch.equal(early["weight"], late["weight"])


def test_training_leaves_the_random_state_of_the_caller_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    network, (x, y), loss = torch.nn.Linear(4, 1), problem(), torch.nn.MSELoss()
    torch.manual_seed(7)
    train_network(network, lambda a, b: loss(network(a), b), (x, y), Recipe(), snapshots=(1,))
    assert torch.equal(torch.rand(1), expected)


def test_a_loss_that_is_not_finite_names_epoch_and_step():
    network = torch.nn.Linear(4, 1)
    with pytest.raises(TrainingError, match="at epoch 1, step 0; lower lr"):
        train_network(network, lambda a, b: network(a).sum() / 0, problem(), Recipe(), snapshots=(1,))


def test_the_inner_rule_finds_the_better_candidate_and_prefers_the_first_of_equals(cohort):
    truth = {s.id: s.layer("target") for s in cohort}
    noise = np.random.default_rng(0)

    def fit_path(_train):
        def predict(section):
            y = truth[section.id]
            yield noise.normal(size=y.shape)
            yield y + 0.1
            yield y + 0.2

        return predict

    assert choose(cohort, ["noise", "first", "second"], fit_path) == "first"
    scores = inner_scores(cohort, fit_path)
    assert abs(scores[0]) < 0.2
    assert scores[1] == pytest.approx(1.0)


def test_the_inner_rule_never_shows_a_validation_donor_in_training(cohort):
    shown = []

    def fit_path(train):
        def predict(section):
            shown.append((train.donors, section.donor))
            yield np.zeros((section.n_spots, 12))

        return predict

    inner_scores(cohort, fit_path)
    assert shown
    assert all(donor not in donors for donors, donor in shown)


def test_a_cohort_without_spots_to_choose_on_is_refused(cohort):
    one = cohort.where(lambda s: s.id == "s0").map(lambda s: s.with_kept(np.zeros(s.n_spots, bool)))
    with pytest.raises(InputError, match="too small to choose parameters"):
        inner_scores(one, lambda train: lambda section: iter([]))
