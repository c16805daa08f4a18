"""The training loop learns, repeats itself, and stops at a loss that is not finite."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe.errors import InputError, TrainingError  # noqa: E402
from hescribe.train.inner import choose, inner_scores  # noqa: E402
from hescribe.train.loop import AdamW, Recipe, train_network, train_steps  # noqa: E402


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


def fit_steps(recipe, *, n_rows=200, n_steps=60, seen=None):
    torch.manual_seed(1)
    network, (x, y), loss = torch.nn.Linear(4, 1), problem(), torch.nn.MSELoss()

    def draw(rows, generator):
        if seen is not None:
            seen.append(rows.tolist())
        return x[rows] + 1e-3 * torch.randn(len(rows), 4, generator=generator), y[rows]

    return train_steps(
        network, lambda a, b: loss(network(a), b), draw, recipe, n_rows=n_rows, n_steps=n_steps
    )["weight"]  # fmt: skip


def test_drawn_batches_teach_a_line():
    weight = fit_steps(Recipe(lr=0.1, weight_decay=0.0, batch_size=50, schedule="cosine"), n_steps=200)
    np.testing.assert_allclose(weight.numpy()[0], [1.0, -2.0, 0.5, 0.0], atol=0.02)


def test_drawn_batches_go_through_all_rows_and_leave_out_a_last_one_that_is_not_full():
    seen = []
    fit_steps(Recipe(batch_size=3), n_rows=10, n_steps=6, seen=seen)
    assert [len(rows) for rows in seen] == [3] * 6
    assert all(len({row for rows in half for row in rows}) == 9 for half in (seen[:3], seen[3:]))


def test_a_batch_larger_than_the_data_holds_all_rows():
    seen = []
    fit_steps(Recipe(batch_size=64), n_rows=5, n_steps=2, seen=seen)
    assert [sorted(rows) for rows in seen] == [[0, 1, 2, 3, 4]] * 2


def test_drawn_batches_repeat_with_the_seed():
    first, second, other = (fit_steps(Recipe(seed=s)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_cosine_rises_in_the_first_twentieth_and_falls_to_zero():
    recipe = Recipe(lr=2.0, schedule="cosine")
    lr = [recipe.lr_at(step, 200) for step in range(200)]
    np.testing.assert_allclose(lr[:10], 0.2 * np.arange(1, 11))
    np.testing.assert_allclose(lr[104], 1.0, atol=1e-6)  # half of the way down
    assert lr[-1] == pytest.approx(0.0, abs=1e-12)
    assert [Recipe(lr=2.0).lr_at(step, 3) for step in range(3)] == [2.0] * 3


def test_a_drawn_loss_that_is_not_finite_names_the_step():
    network = torch.nn.Linear(4, 1)
    with pytest.raises(TrainingError, match="the loss is nan at step 0; lower lr"):
        train_steps(
            network, lambda a: network(a).sum() * torch.nan, lambda rows, _: (torch.ones(len(rows), 4),), Recipe(),
            n_rows=4, n_steps=1,
        )  # fmt: skip


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


def test_a_part_of_the_network_can_take_smaller_steps():
    network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1), "head": torch.nn.Linear(1, 1)})
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimiser = Recipe(lr=0.1, weight_decay=0.0, shares=(("encoder.", 0.01),)).optimiser(network)
    sum(p.sum() for p in network.parameters()).backward()
    optimiser.step()  # Adam's first step is lr, whatever the gradient
    moved = {k: (before[k] - v).abs().item() for k, v in network.state_dict().items()}
    assert moved["encoder.weight"] == pytest.approx(0.001, rel=1e-3)
    assert moved["head.weight"] == pytest.approx(0.1, rel=1e-3)


def test_refuses_smaller_steps_of_a_part_that_is_not_there():
    with pytest.raises(InputError, match=r"starts with 'encoder\.'"):
        Recipe(shares=(("encoder.", 0.1),)).optimiser(torch.nn.Linear(1, 1))
