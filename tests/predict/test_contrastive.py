"""BLEEP and mclSTExp: losses by hand, who may see whom, planted signals, and bad input."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe import keys  # noqa: E402
from hescribe.bench.model_folder import join_fitted, split_fitted  # noqa: E402
from hescribe.data.cohort import Cohort  # noqa: E402
from hescribe.encode.frozen_images import ImageScale  # noqa: E402
from hescribe.encode.spot_inputs import SpotInputs  # noqa: E402
from hescribe.errors import InputError  # noqa: E402
from hescribe.predict._spot_encoder import BatchSpotEncoder, published_spots  # noqa: E402
from hescribe.predict.base import predictors  # noqa: E402
from hescribe.testing.cohorts import colour_section  # noqa: E402
from hescribe.train.contrastive import ProjectionHead, Towers, embed_spots, pair_loss, soft_pair_loss  # noqa: E402

FAST = {"encoder": "color", "epochs": 2, "k": 20, "batch_size": 64}
BOTH = ("bleep", "mclstexp")
EVERY_WAY = [(name, legacy) for name in BOTH for legacy in (False, True)]


def make(name, *, legacy=False, **changes):
    given = {k: v for k, v in FAST.items() if not (legacy and k == "batch_size")}
    return predictors.create(name, **(given | {"legacy": legacy} | changes))


def with_table(section, **obs):
    table = section.table.copy()
    for name, values in obs.items():
        table.obs[name] = values
    return section.with_table(table)


def planted(seed, donor, *, noise=0.5):
    """A section whose genes follow the colour of the spot, and noise; and what follows the colour alone."""
    section = colour_section(seed, donor, n_side=10)
    x = SpotInputs(encoder="color", fov_um=(112.0,), n_rings=0, standardise="section").read(section)[:, :1]
    slope = np.linspace(-1, 1, 12)[None]
    clean = x * slope + np.where(slope > 0, 0.5, -0.5) * np.tanh(2 * x)
    table = section.table.copy()
    noisy = clean + noise * np.random.default_rng(seed).normal(size=clean.shape)
    table.layers[keys.TARGET] = noisy.astype(np.float32)
    return section.with_table(table), clean


def mean_correlation(a, b):
    return np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


def test_pair_loss_is_the_mean_of_both_cross_entropies():
    image, expression = np.random.default_rng(0).normal(size=(2, 5, 3))
    logits = 2 * expression @ image.T
    rows = [np.log(np.exp(z).sum()) - z[i] for i, z in enumerate(logits)]
    columns = [np.log(np.exp(z).sum()) - z[i] for i, z in enumerate(logits.T)]
    found = pair_loss(torch.from_numpy(image), torch.from_numpy(expression), 2.0)
    assert found.item() == pytest.approx(np.mean(rows + columns))


def test_published_soft_loss_takes_the_first_targets_transposed():
    """The formula of the paper in numpy: A = softmax((II' + SS') / 2), CE(SI', A) and CE(IS', A')."""
    image, expression = np.random.default_rng(1).normal(size=(2, 4, 3))

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    target = softmax((image @ image.T + expression @ expression.T) / 2)
    logits = expression @ image.T
    expected = -(target * np.log(softmax(logits))).sum() - (target.T * np.log(softmax(logits.T))).sum()
    found = soft_pair_loss(torch.from_numpy(image), torch.from_numpy(expression), 1.0, legacy=True)
    assert found.item() == pytest.approx(expected / 8)


def test_gradients_flow_through_the_targets_the_published_way_only():
    """The loss is linear in the targets: held still, they leave the gradient of the same loss with targets given."""
    image = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    gradients = {}
    for way in ("published", "ours", "given"):
        expression = torch.tensor([[0.9, 0.1], [0.1, 0.9]], requires_grad=True)
        if way == "given":
            target = torch.softmax((image @ image.T + expression @ expression.T).detach() / 2, dim=-1)
            logits = expression @ image.T
            loss = sum(-(target * torch.log_softmax(z, dim=-1)).sum() for z in (logits, logits.T)) / 4
        else:
            loss = soft_pair_loss(image, expression, 1.0, legacy=way == "published")
        (gradients[way],) = torch.autograd.grad(loss, expression)
    torch.testing.assert_close(gradients["ours"], gradients["given"])
    assert (gradients["published"] - gradients["given"]).abs().max() > 0.01


def test_embeddings_have_length_one_unless_published():
    x = torch.randn(3, 4)
    for unit in (True, False):
        towers = Towers(ProjectionHead(4, 8), ProjectionHead(4, 8), unit=unit)
        length = towers.embed_image(10 * x).norm(dim=-1)
        assert torch.allclose(length, torch.ones(3)) == unit
        assert towers.temperature() == pytest.approx(0.07 if unit else 1.0)


def test_published_networks_have_the_published_size():
    """For 785 genes: 2 x 65,536 x 785 numbers in the tables, about 5.7 M in the transformer and .6 M in the heads."""
    with torch.device("meta"):
        spot, image = BatchSpotEncoder(785, 256, n_x=65_536, n_y=65_536), ProjectionHead(1024, 256)
    n_tables = sum(p.numel() for p in (*spot.x.parameters(), *spot.y.parameters()))
    n_heads = sum(p.numel() for p in (*spot.head.parameters(), *image.parameters()))
    assert n_tables == 102_891_520
    assert sum(p.numel() for p in spot.blocks.parameters()) == pytest.approx(5.7e6, rel=0.01)
    assert n_heads == pytest.approx(0.6e6, rel=0.01)


def towers_of(expression):
    return Towers(torch.nn.Identity(), expression, unit=True).eval()


def test_the_published_embedding_changes_with_the_other_spots_of_the_batch(cohort):
    values, place = published_spots(cohort)
    network = towers_of(BatchSpotEncoder(12, 16, n_x=7, n_y=7))

    def take(rows):
        return values[rows], place[rows]

    embedded = [embed_spots(network, take, len(values), chunk=chunk)[0] for chunk in (32, 128)]
    assert np.abs(embedded[0] - embedded[1]).max() > 1e-3


@pytest.mark.parametrize(("name", "legacy"), EVERY_WAY)
def test_a_section_beyond_the_places_of_training_is_predicted_alike(cohort, name, legacy):
    """Places are read of train spots only, so none can be outside of what was trained."""
    fitted = make(name, legacy=legacy).fit(cohort)
    section = cohort[0].blind()
    far = with_table(section, **{keys.ARRAY_ROW: section.table.obs[keys.ARRAY_ROW] + 100_000})
    np.testing.assert_array_equal(fitted.predict(far).mean, fitted.predict(section).mean)


@pytest.mark.parametrize("name", BOTH)
def test_the_published_way_survives_saving(cohort, name):
    fitted = make(name, legacy=True).fit(cohort)
    restored = make(name, legacy=True).set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
    section = cohort[0].blind()
    np.testing.assert_array_equal(restored.predict(section).mean, fitted.predict(section).mean)


@pytest.mark.parametrize(("name", "legacy"), EVERY_WAY)
def test_a_spot_is_predicted_the_same_alone_and_twice(cohort, name, legacy):
    fitted, section = make(name, legacy=legacy).fit(cohort), cohort[0].blind()
    every = fitted.predict(section).mean
    np.testing.assert_array_equal(fitted.predict(section).mean, every)
    five = section.with_table(section.table[[3, 30, 8, 0, 41]].copy())
    np.testing.assert_allclose(fitted.predict(five).mean, every[[3, 30, 8, 0, 41]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_a_planted_signal_is_found_as_far_as_noise_allows(name):
    """The best that can be reached is the correlation of what follows the colour with what was measured."""
    train = Cohort(tuple(planted(i, f"D{i // 2}")[0] for i in range(4)))
    test, clean = planted(9, "D9")
    predicted = make(name, epochs=20, k=50).fit(train).predict(test.blind()).mean
    measured = test.layer(keys.TARGET)
    assert mean_correlation(predicted, measured) > 0.9 * mean_correlation(clean, measured)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.slow
def test_shuffled_pairs_teach_nothing(name):
    rng = np.random.default_rng(0)

    def shuffle(section):
        table = section.table.copy()
        table.layers[keys.TARGET] = table.layers[keys.TARGET][rng.permutation(section.n_spots)]
        return section.with_table(table)

    sections = [planted(i, f"D{i // 2}")[0] for i in range(4)]
    test, _ = planted(9, "D9")
    score = {}
    for pairs, change in (("true", lambda s: s), ("shuffled", shuffle)):
        fitted = make(name, epochs=5, k=50).fit(Cohort(tuple(map(change, sections))))
        score[pairs] = mean_correlation(fitted.predict(test.blind()).mean, test.layer(keys.TARGET))
    assert score["true"] > 0.5
    assert abs(score["shuffled"]) < 0.3


@pytest.mark.parametrize("name", BOTH)
def test_the_level_of_a_section_does_not_reach_a_prediction(cohort, name):
    """One deep section among the train sections raises all predictions alike, and not those of its neighbours."""

    def raised(section):
        table = section.table.copy()
        table.layers[keys.TARGET] = table.layers[keys.TARGET] + (3.0 if section.id == "s0" else 0.0)
        return section.with_table(table)

    test = cohort[-1].blind()
    bank = make(name).fit(cohort.map(raised)).bank_
    by_section = [bank["values"][bank["section"] == i].mean(axis=0) for i in range(6)]
    np.testing.assert_allclose(by_section, np.tile(by_section[0], (6, 1)), atol=1e-4)
    assert np.isfinite(make(name).fit(cohort.map(raised)).predict(test).mean).all()


@pytest.mark.parametrize(("name", "legacy"), EVERY_WAY)
def test_the_spots_a_prediction_rests_on_add_up_to_it(cohort, name, legacy):
    fitted, section = make(name, legacy=legacy).fit(cohort), cohort[0].blind()
    lines = fitted.explain(section)
    first = lines[lines["spot"] == section.table.obs_names[0]]
    assert len(first) == 20
    assert first["weight"].sum() == pytest.approx(1)
    if legacy:  # the bank carries what was measured
        value = {
            (s.id, spot): y for s in cohort for spot, y in zip(s.table.obs_names, s.layer(keys.TARGET), strict=True)
        }
        pairs = zip(first["section"], first["train_spot"], strict=True)
        mean = np.sum([w * value[p] for w, p in zip(first["weight"], pairs, strict=True)], axis=0)
        np.testing.assert_allclose(mean, fitted.predict(section).mean[0], rtol=1e-4)


def test_components_have_unit_variance_and_leave_constants_out():
    x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32) @ np.diag([9, 5, 3, 1, 1, 0]).astype(
        np.float32
    )
    scale = ImageScale.of(x, 4)
    np.testing.assert_allclose(np.cov(scale.apply(x).T), np.eye(4), atol=0.02)
    assert ImageScale.of(x, 40).apply(x).shape == (200, 5)
    assert ImageScale.of(x, None).apply(x).shape == (200, 6)
    np.testing.assert_array_equal(ImageScale().apply(x), x)


def test_images_that_do_not_differ_give_one_silent_component():
    x = np.full((20, 6), 3.0, dtype=np.float32)
    np.testing.assert_array_equal(ImageScale.of(x, 4).apply(x + np.arange(6, dtype=np.float32)), np.zeros((20, 1)))


@pytest.mark.parametrize("changes", [{}, {"n_neighbours": 0}, {"n_neighbours": 100}, {"place": False}])
@pytest.mark.slow
def test_a_section_without_kept_spots_and_any_number_of_neighbours_do_no_harm(cohort, changes):
    part = cohort.map(lambda s: s.with_kept(np.full(s.n_spots, s.id != "s1")))
    fitted = make("mclstexp", **changes).fit(part)
    assert np.isfinite(fitted.predict(cohort[1].blind()).mean).all()
    assert "s1" not in set(fitted.explain(cohort[1].blind())["section"])


def test_predicting_draws_no_random_number_of_the_caller(cohort):
    fitted = make("bleep").fit(cohort)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fitted.predict(cohort[0].blind())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", BOTH)
def test_a_cohort_of_one_small_section_is_enough(name):
    section = colour_section(0, "D0", n_side=3)
    table = section.table[:5].copy()
    table.layers[keys.TARGET] = np.log1p(table.layers[keys.COUNTS].toarray())
    fitted = make(name, k=3).fit(Cohort((section.with_table(table),)))
    assert fitted.predict(section.blind()).mean.shape == (9, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 1000}, "k must be between 1 and the 294 training spots, got 1000"),
        ({"k": 0}, "k of .* must be at least 1"),
        ({"epochs": 0}, "epochs of .* must be at least 1"),
        ({"n_components": 0}, "n_components of .* must be at least 1"),
        ({"dropout": 1.0}, "dropout of .* must be between"),
        ({"legacy": True, "lr": 0.1}, "lr of .* has no effect with legacy=True"),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_a_parameter_without_meaning_is_refused(cohort, name, changes, message):
    with pytest.raises(InputError, match=message):
        predictors.create(name, encoder="color", **changes).fit(cohort)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "n_heads of MclstexpPredictor must divide 128"),
        ({"legacy_distance": "l2"}, "no effect with legacy=False"),
    ],
)
def test_mclstexp_refuses_what_has_no_meaning(cohort, changes, message):
    with pytest.raises(InputError, match=message):
        make("mclstexp", **changes).fit(cohort)


@pytest.mark.parametrize("name", BOTH)
def test_one_spot_is_no_pair(cohort, name):
    one = replace(cohort, sections=(cohort[0].with_kept(np.arange(49) == 3),))
    with pytest.raises(InputError, match="needs at least 2 train spots"):
        make(name).fit(one)
