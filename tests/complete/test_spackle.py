"""SpaCKLE: what it sees and what it does not, that it learns what was planted, and what it does with bad input."""

import numpy as np
import pytest
from scipy import sparse

torch = pytest.importorskip("torch")

from tests.complete.spackle_sections import DEPTH, section_of  # noqa: E402

from hescribe import keys  # noqa: E402
from hescribe.bench.model_folder import join_fitted, split_fitted  # noqa: E402
from hescribe.complete._spackle_network import BatchAttentionNetwork, NeighbourhoodNetwork  # noqa: E402
from hescribe.complete._spackle_published import BATCH, complete_in_batches  # noqa: E402
from hescribe.complete.base import View, complete, to_values  # noqa: E402
from hescribe.complete.hiding import hide_counts  # noqa: E402
from hescribe.complete.section_mean import SectionMeanCompleter  # noqa: E402
from hescribe.complete.spackle import SpackleCompleter  # noqa: E402
from hescribe.data.cohort import Cohort  # noqa: E402
from hescribe.data.section import Section  # noqa: E402
from hescribe.errors import InputError, NotFittedError, PanelError  # noqa: E402

SMALL = {"n_dims": 16, "n_heads": 2, "n_steps": 5, "batch_size": 32}
N_SIDE, N_GENES = 12, 6


def planted(kind, seed):
    """Counts of which gene 0 is known from the same gene around a spot, or from gene 1 of the spot alone."""
    rng = np.random.default_rng(seed)
    high = rng.random((N_SIDE, N_SIDE)) < 0.5
    if kind == "neighbours":  # patches of four by four spots share their state; no other gene knows it
        high = np.kron(rng.random((N_SIDE // 4, N_SIDE // 4)) < 0.5, np.ones((4, 4))) > 0
    rate = np.full((N_SIDE * N_SIDE, N_GENES), 30.0)
    rate[:, 0] = np.where(high.ravel(), 80.0, 10.0)
    if kind == "genes":
        rate[:, 1:4] = rate[:, :1]
    return section_of(np.maximum(rng.poisson(rate), 1), f"s{seed}", f"D{seed}")


def error_at_gene_0(completer, section):
    """Mean squared error of gene 0 where every second spot hides it."""
    where = np.zeros((section.n_spots, N_GENES), bool)
    where[::2, 0] = True
    answer = to_values(View.of(section).counts, section.depth)
    shown = hide_counts(section, where, depth_seen="full")
    return float(np.mean((completer.estimate(shown).mean - answer)[where] ** 2))


@pytest.fixture(scope="module")
def fitted(raw_cohort):
    return SpackleCompleter(**SMALL).fit(raw_cohort)


@pytest.fixture(scope="module")
def legacy(raw_cohort):
    return SpackleCompleter(n_steps=3, legacy_batch_attention=True, legacy_tokens=2).fit(raw_cohort)


# What a prediction depends on


def batch_of_neighbourhoods(n=64, n_genes=32, n_tokens=19):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(n, n_tokens, n_genes, generator=generator) * 10
    points = torch.randint(-2, 3, (n, n_tokens, 2), generator=generator).float()
    points[:, 0] = 0
    return values, points, torch.zeros(n, n_tokens, dtype=torch.bool)


def corrected(values, points, absent):
    torch.manual_seed(1)
    network = NeighbourhoodNetwork(values.shape[-1], 0, n_dims=16, n_heads=2, n_layers=2).eval()
    torch.nn.init.normal_(network.head.weight)  # it starts at 0, where nothing matters
    image = values.new_zeros(*values.shape[:2], 0)
    with torch.inference_mode():
        return network(network.tokens(values, values > 1, image), points, absent)


@pytest.fixture(scope="module")
def published(legacy):
    """The centres' values by the network that the published way has trained."""
    network = BatchAttentionNetwork(len(legacy.genes_)).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in legacy.weights_.items()}, strict=True)

    def predict(values):
        with torch.inference_mode():
            return network(values)[:, 0]

    return predict


def moved(before, after):
    return float((after - before).abs().max())


def test_in_the_published_network_neighbours_change_nothing_and_batch_mates_do(published):
    values, _, _ = batch_of_neighbourhoods(n_genes=12)
    other = values.clone()
    other[:, 1:] = torch.rand(other[:, 1:].shape) * 10
    assert moved(published(values), published(other)) == 0.0
    mates = values.clone()
    mates[1:, 0] += 5
    assert moved(published(values)[0], published(mates)[0]) > 1e-3
    assert moved(published(values)[:32], published(values[:32])) > 1e-4


def test_in_the_corrected_network_neighbours_matter_and_batch_mates_do_not():
    values, points, absent = batch_of_neighbourhoods()
    other = values.clone()
    other[:, 1:] = other[:, 1:].flip(0)
    before = corrected(values, points, absent)
    assert moved(before, corrected(other, points, absent)) > 1e-2
    mates = values.clone()
    mates[1:] += 5
    assert moved(before[0], corrected(mates, points, absent)[0]) < 1e-5
    assert moved(before[:3], corrected(values[:3], points[:3], absent[:3])) < 1e-5


def test_the_corrected_network_sees_where_a_neighbour_lies_but_not_its_place_in_the_list():
    values, points, absent = batch_of_neighbourhoods()
    before = corrected(values, points, absent)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(18)])
    assert moved(before, corrected(values[:, order], points[:, order], absent)) < 1e-5
    assert moved(before, corrected(values, points * 2, absent)) > 1e-4
    assert moved(before, corrected(values, points + 7, absent)) < 1e-5


def test_an_absent_neighbour_has_no_say():
    values, points, absent = batch_of_neighbourhoods()
    absent[:, 10:] = True
    other = values.clone()
    other[:, 10:] = 99
    before = corrected(values, points, absent)
    assert moved(before, corrected(other, points, absent)) == 0.0
    assert moved(before, corrected(values[:, :10], points[:, :10], absent[:, :10])) < 1e-5


def test_a_value_that_is_not_visible_cannot_be_read():
    network = NeighbourhoodNetwork(4, 0, n_dims=8, n_heads=1, n_layers=1)
    visible = torch.tensor([[True, False, True, False]])
    one, two = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, -9.0, 3.0, 99.0]])
    image = torch.zeros(1, 0)
    assert torch.equal(network.tokens(one, visible, image), network.tokens(two, visible, image))


def test_a_far_spot_of_the_section_changes_nothing_and_a_near_one_does(raw_cohort):
    completer = SpackleCompleter(**SMALL, n_neighbours=8, centre="train").fit(raw_cohort)
    before = completer.estimate(raw_cohort[0]).mean
    for spot, reach in ((48, 0.0), (8, 1e-6)):  # the far corner, and a spot that touches spot 0
        table = raw_cohort[0].table.copy()
        counts = table.layers[keys.COUNTS].toarray()
        counts[spot] = counts[spot][::-1] * 2 + 1
        table.layers[keys.COUNTS] = counts
        table.obs[keys.DEPTH] += 1000.0
        table.obs.loc[table.obs_names != table.obs_names[spot], keys.DEPTH] -= 1000.0
        change = np.abs(completer.estimate(raw_cohort[0].with_table(table)).mean[0] - before[0]).max()
        assert (change > reach) if reach else (change < 1e-6)


def test_in_use_the_published_model_depends_on_the_order_of_the_table(legacy, fitted, raw_cohort):
    section = raw_cohort[0]
    twice = section_of(np.tile(View.of(section).counts, (7, 1)))  # 343 spots: a full batch and the rest
    mixed = np.random.default_rng(0).permutation(twice.n_spots)
    shuffled = twice.with_table(twice.table[mixed].copy())
    genes = raw_cohort.genes
    for s in (twice, shuffled):
        s.table.var_names = genes
    assert np.abs(legacy.estimate(shuffled).mean - legacy.estimate(twice).mean[mixed]).max() > 1e-4
    np.testing.assert_allclose(fitted.estimate(shuffled).mean, fitted.estimate(twice).mean[mixed], atol=1e-4)


# The networks and their batches


@pytest.mark.parametrize(("n_genes", "n_parameters"), [(128, 1_219_072), (32, 277_120)])
def test_the_published_network_has_the_published_number_of_parameters(n_genes, n_parameters):
    assert sum(p.numel() for p in BatchAttentionNetwork(n_genes).parameters()) == n_parameters


def test_the_centre_alone_is_completed_as_with_its_neighbours():
    values, _, _ = batch_of_neighbourhoods(n=BATCH + 40)
    torch.manual_seed(1)
    network = BatchAttentionNetwork(32).eval()
    with torch.inference_mode():
        whole = torch.cat([network(values[:BATCH])[:, 0], network(values[BATCH:])[:, 0]])
    np.testing.assert_allclose(complete_in_batches(network, values[:, 0].numpy()), whole.numpy(), atol=1e-5)


# What it learns


@pytest.mark.parametrize("kind", ["neighbours", "genes"])
def test_it_finds_what_was_planted(kind):
    train = Cohort(tuple(planted(kind, seed) for seed in range(3)))
    test = planted(kind, 9)
    floor = error_at_gene_0(SectionMeanCompleter().fit(train), test)
    small = {"n_dims": 16, "n_heads": 2, "n_steps": 80, "batch_size": 64, "lr": 5e-3, "depth_seen": "full"}
    found = error_at_gene_0(SpackleCompleter(**small, n_neighbours=8).fit(train), test)
    alone = error_at_gene_0(SpackleCompleter(**small, n_neighbours=0).fit(train), test)
    assert found < 0.5 * floor
    assert (alone > 0.9 * floor) if kind == "neighbours" else (alone < 0.5 * floor)


def test_the_same_seed_repeats_and_another_does_not(raw_cohort, fitted):
    again = SpackleCompleter(**SMALL).fit(raw_cohort).estimate(raw_cohort[0]).mean
    np.testing.assert_array_equal(again, fitted.estimate(raw_cohort[0]).mean)
    other = SpackleCompleter(**SMALL, seed=1).fit(raw_cohort).estimate(raw_cohort[0]).mean
    assert np.abs(again - other).max() > 1e-4


@pytest.mark.parametrize("name", ["fitted", "legacy"])
def test_it_survives_saving(name, raw_cohort, request):
    completer = request.getfixturevalue(name)
    state = join_fitted(*split_fitted(completer.get_fitted()))
    restored = completer.with_params().set_fitted(state)
    expected = completer.estimate(raw_cohort[0]).mean
    np.testing.assert_array_equal(restored.estimate(raw_cohort[0]).mean, expected)
    state["weights_"].pop("head.bias")
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.bias"):
        restored.estimate(raw_cohort[0])


# Image


def test_the_image_is_seen_and_a_section_without_one_is_refused(raw_cohort):
    completer = SpackleCompleter(**SMALL, encoder="color").fit(raw_cohort)
    section = raw_cohort[0]
    other = Section(section.id, section.donor, section.table, raw_cohort[1].image, section.card)
    assert np.abs(completer.estimate(section).mean - completer.estimate(other).mean).max() > 1e-4
    blank = Section(section.id, section.donor, section.table, None, section.card)
    with pytest.raises(InputError, match="section s0 has no image"):
        completer.estimate(blank)
    with pytest.raises(InputError, match="section s0 has no image"):
        SpackleCompleter(**SMALL, encoder="color").fit(Cohort((blank,)))


# Sparse, small and odd sections


ODD = {
    "one spot": section_of(np.full((1, 12), 3.0)),
    "two islands": section_of(
        np.full((8, 12), 3.0), place=([0, 0, 1, 1, 90, 90, 91, 91], [0, 1, 0, 1, 90, 91, 90, 91])
    ),
    "spots without a count": section_of(np.tile([[3.0] * 12, [0.0] * 12], (10, 1))),
    "nothing at all": section_of(np.zeros((9, 12)), depth=0),
    "a gene never measured": section_of(np.tile([0.0] + [3.0] * 11, (9, 1))),
}


def on_panel(section, genes):
    section.table.var_names = list(genes)
    return section


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("name", ["fitted", "legacy"])
def test_odd_sections_are_completed_without_nan(odd, name, raw_cohort, request):
    completer, section = request.getfixturevalue(name), on_panel(ODD[odd], raw_cohort.genes)
    assert np.isfinite(completer.estimate(section).mean).all()
    assert np.isfinite(complete(completer, section).layer(keys.COMPLETED)).all()


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("params", [SMALL, {"n_steps": 2, "legacy_batch_attention": True}], ids=["corrected", "legacy"])
def test_odd_sections_can_be_learned_from(odd, params, raw_cohort):
    train = Cohort((on_panel(ODD[odd], raw_cohort.genes),))
    assert np.isfinite(SpackleCompleter(**params).fit(train).estimate(raw_cohort[0]).mean).all()


def test_a_gene_never_measured_in_training_takes_the_mean_of_the_section():
    train = Cohort((section_of(np.tile([0.0, 4.0, 6.0], (49, 1))),))
    test = section_of(np.tile([5.0, 4.0, 6.0], (49, 1)))
    found = SpackleCompleter(**SMALL).fit(train).estimate(test).mean
    np.testing.assert_allclose(found[:, 0], np.log2(1 + 1e6 * 5 / DEPTH), rtol=1e-5)


def test_sparse_and_dense_counts_give_the_same(fitted, raw_cohort):
    table = raw_cohort[0].table.copy()
    assert sparse.issparse(table.layers[keys.COUNTS])
    table.layers[keys.COUNTS] = table.layers[keys.COUNTS].toarray()
    dense = raw_cohort[0].with_table(table)
    np.testing.assert_array_equal(fitted.estimate(dense).mean, fitted.estimate(raw_cohort[0]).mean)


def test_counts_that_may_not_be_written_to_are_completed(fitted, raw_cohort):
    table = raw_cohort[0].table.copy()
    counts = table.layers[keys.COUNTS].toarray()
    counts.setflags(write=False)
    table.layers[keys.COUNTS] = counts
    assert np.isfinite(fitted.estimate(raw_cohort[0].with_table(table)).mean).all()


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "n_dims of SpackleCompleter must be a multiple of n_heads, got 128 and 3"),
        ({"n_steps": 0}, "n_steps of SpackleCompleter must be at least 1"),
        ({"legacy_tokens": 20}, "legacy_tokens of SpackleCompleter must be between 1 and 19"),
        ({"hide": (0.6, 0.2)}, "hide of SpackleCompleter must be two shares"),
        ({"hide": (0.0, 0.5)}, "hide of SpackleCompleter must be two shares"),
        ({"legacy_tokens": 4}, "legacy_tokens of SpackleCompleter has no effect with legacy_batch_attention=False"),
        (
            {"legacy_batch_attention": True, "n_layers": 4},
            "n_layers of SpackleCompleter has no effect",
        ),
        ({"legacy_batch_attention": True, "encoder": "color"}, "encoder of SpackleCompleter has no effect"),
    ],
)
def test_parameters_out_of_limits_or_without_effect_are_refused(changes, message, raw_cohort):
    with pytest.raises(InputError, match=message):
        SpackleCompleter(**changes).fit(raw_cohort)


def test_it_refuses_other_genes_and_use_before_fit(fitted, raw_cohort):
    with pytest.raises(NotFittedError, match="call fit"):
        SpackleCompleter().estimate(raw_cohort[0])
    other = raw_cohort[0].with_table(raw_cohort[0].table[:, ::-1].copy())
    with pytest.raises(PanelError, match="order differs"):
        fitted.estimate(other)
