"""The completer of two networks on a planted cohort: programmes of genes, a smooth field, spots of unequal depth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, SectionCard
from hescribe.complete import _gene_network, stacked
from hescribe.complete._entry_network import LEVELS, EntryFeatures, EntryNetwork
from hescribe.complete._settling import Settled
from hescribe.complete.base import PER_MILLION, View
from hescribe.complete.centred import Centred
from hescribe.complete.hiding import draw_lesson
from hescribe.complete.knn import KNNCompleter
from hescribe.complete.section_mean import SectionMeanCompleter
from hescribe.complete.stacked import StackedCompleter
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError

N_SIDE, N_GENES = 12, 24
FAST = {"n_hidden": 48, "n_steps": 60}


def planted_section(index, donor, *, n_side=N_SIDE, log_depth=5.5):
    rng = np.random.default_rng([3, index])
    row, col = (a.ravel() for a in np.mgrid[:n_side, :n_side])
    loading = np.random.default_rng(4).normal(size=(2, N_GENES))  # programmes shared by all donors
    smooth = np.column_stack([np.sin(row / 3 + index), np.cos(col / 4 - index)])
    level = rng.normal(0, 0.6, N_GENES)  # of the donor
    rate = np.exp(0.6 * smooth @ loading + level)
    depth = np.exp(rng.normal(log_depth, 0.7, len(row)))
    counts = rng.poisson(depth[:, None] * rate / rate.sum(axis=1, keepdims=True)).astype(np.float32)
    table = AnnData(
        obs=pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col, keys.DEPTH: counts.sum(axis=1)}).set_index(
            pd.Index([f"{c}x{r}" for r, c in zip(row, col, strict=True)])
        ),
        var=pd.DataFrame(index=[f"GENE{g}" for g in range(N_GENES)]),
        obsm={keys.SPATIAL_UM: np.column_stack([col, row]) * 200.0},
        layers={keys.COUNTS: sparse.csr_matrix(counts)},
    )
    return Section(f"s{index}", donor, table, None, SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=200.0))


@pytest.fixture(scope="module")
def cohort():
    return Cohort(tuple(planted_section(i, f"D{i}") for i in range(5)))


@pytest.fixture(scope="module")
def train(cohort):
    return cohort.where(lambda s: s.donor != "D4")


@pytest.fixture(scope="module")
def lesson(cohort):
    return draw_lesson(cohort[4], 0.3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(train):
    return StackedCompleter(**FAST).fit(train)


def error(completer, lesson):
    return float(((completer.estimate(lesson.section).mean - lesson.answer)[lesson.where] ** 2).mean())


def test_it_beats_what_section_and_neighbours_say_on_a_new_donor(fitted, train, lesson):
    simple = (SectionMeanCompleter(), KNNCompleter(k=8), KNNCompleter(k=18, spot_offset=True))
    assert error(fitted, lesson) < 0.95 * min(error(c.fit(train), lesson) for c in simple)


@pytest.mark.slow
def test_it_uses_the_other_genes_and_the_spots_around(fitted, lesson):
    found = fitted.estimate(lesson.section).mean

    def change(rows, columns):
        table = lesson.section.table.copy()
        counts = table.layers[keys.COUNTS].copy()
        counts[np.ix_(rows, columns)] *= 4
        table.layers[keys.COUNTS] = counts
        return fitted.estimate(lesson.section.with_table(table)).mean

    others, spot = np.arange(1, N_GENES), N_SIDE * 5 + 5
    assert abs(change([spot], others)[spot, 0] - found[spot, 0]) > 1e-3
    assert abs(change([spot + 1, spot - 1, spot + N_SIDE], np.arange(N_GENES))[spot, 0] - found[spot, 0]) > 1e-3


def test_its_spread_covers_the_answers(fitted, lesson):
    found = fitted.estimate(lesson.section)
    inside = np.abs(found.mean - lesson.answer)[lesson.where] <= 1.645 * found.sd[lesson.where]
    assert 0.83 < inside.mean() < 0.97


def test_a_measured_value_is_never_below_that_of_one_count(fitted, lesson):
    view = View.of(lesson.section)
    least = np.log2(1 + PER_MILLION / np.maximum(view.depth, 1))
    assert (fitted.estimate(lesson.section).mean >= least[:, None] - 1e-4).all()


def test_the_second_network_learns_from_guesses_about_donors_that_the_first_has_not_seen(train, monkeypatch):
    seen, learned = [], []
    plain = _gene_network.train_gene_network

    def spy(pupils, mean, recipe):
        seen.append({p.section.donor for p in pupils if p.spots.any()})
        return plain(pupils, mean, recipe)

    own = StackedCompleter._learn_from

    def note(self, pupil, network, shares):
        learned.append((pupil.section.donor, set(seen[-1])))
        return own(self, pupil, network, shares)

    monkeypatch.setattr(_gene_network, "train_gene_network", spy)
    monkeypatch.setattr(StackedCompleter, "_learn_from", note)
    StackedCompleter(n_hidden=4, n_steps=2).fit(train)
    assert {donor for donor, _ in learned} == set(train.donors)
    assert all(donor not in others for donor, others in learned)
    assert seen[-1] == set(train.donors)


def test_of_one_section_the_first_network_has_not_seen_the_stripe_that_is_guessed(cohort, monkeypatch):
    seen, learned = [], []
    plain, own = _gene_network.train_gene_network, StackedCompleter._learn_from

    def spy(pupils, mean, recipe):
        seen.append(pupils[0].spots)
        return plain(pupils, mean, recipe)

    def note(self, pupil, network, shares):
        learned.append((pupil.spots, seen[-1]))
        return own(self, pupil, network, shares)

    monkeypatch.setattr(_gene_network, "train_gene_network", spy)
    monkeypatch.setattr(StackedCompleter, "_learn_from", note)
    StackedCompleter(n_hidden=4, n_steps=2).fit(Cohort((cohort[0],)))
    assert len(learned) == stacked.N_GROUPS
    assert not any((guessed & shown).any() for guessed, shown in learned)
    assert np.sum([guessed for guessed, _ in learned], axis=0).tolist() == [1] * cohort[0].n_spots


def test_sections_of_one_donor_are_guessed_together(monkeypatch):
    """Six sections of three donors: the network that guesses one has seen no other of its donor."""
    pairs = Cohort(tuple(replace(planted_section(i, "?", n_side=5), donor=f"D{i // 2}") for i in range(6)))
    trained = []
    plain = _gene_network.train_gene_network

    def spy(pupils, mean, recipe):
        trained.append([p.section.donor for p in pupils if p.spots.any()])
        return plain(pupils, mean, recipe)

    monkeypatch.setattr(_gene_network, "train_gene_network", spy)
    StackedCompleter(n_hidden=4, n_steps=2).fit(pairs)
    *without_one, last = trained
    assert [sorted(set(donors)) for donors in without_one] == [["D1", "D2"], ["D0", "D2"], ["D0", "D1"]]
    assert sorted(last) == ["D0", "D0", "D1", "D1", "D2", "D2"]


def test_of_a_large_section_all_spots_are_learned_from(cohort, monkeypatch):
    """No pass may hold more than so many spots, and other ones are drawn in the next."""
    drawn = []
    plain = _gene_network.gene_inputs

    def spy(centred, near, rows):
        drawn.append(rows)
        return plain(centred, near, rows)

    monkeypatch.setattr(_gene_network, "MAX_SPOTS", 30)
    monkeypatch.setattr(_gene_network, "gene_inputs", spy)
    section, n_spots = cohort[0], cohort[0].n_spots
    pupil = _gene_network.Pupil(section, np.ones(n_spots, dtype=bool), View.of(section).neighbourhoods(8, 36))
    recipe = _gene_network.GeneNetworkRecipe(
        n_hidden=4, dropout=0.0, n_steps=60, missing="measured", depth_seen="visible", seed=0
    )
    _gene_network.train_gene_network([pupil], np.zeros(N_GENES), recipe)
    assert {len(rows) for rows in drawn} == {30}
    assert set(np.concatenate(drawn)) == set(range(n_spots))


@pytest.mark.parametrize(("missing", "depth_seen"), [("any", "visible"), ("measured", "full")])
def test_every_lesson_is_of_the_kind_asked_for(train, monkeypatch, missing, depth_seen):
    asked, plain = [], stacked.draw_lesson

    def spy(section, share, rng, *, missing="measured", depth_seen="visible"):
        asked.append((missing, depth_seen))
        return plain(section, share, rng, missing=missing, depth_seen=depth_seen)

    for module in (stacked, _gene_network):
        monkeypatch.setattr(module, "draw_lesson", spy)
    StackedCompleter(n_hidden=4, n_steps=2, missing=missing, depth_seen=depth_seen).fit(train).estimate(train[0])
    assert set(asked) == {(missing, depth_seen)}


def test_the_spread_of_a_gene_is_taken_about_the_means_of_its_sections(fitted, train):
    gene, squares = 3, []
    for section in train:
        count = section.table.layers[keys.COUNTS].toarray()[:, gene]
        values = np.log2(1 + PER_MILLION * count / section.depth)[count > 0]
        squares += list((values - values.mean()) ** 2)
    assert fitted.sd_[gene] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-4)


@pytest.mark.slow
def test_fresh_counts_are_predicted_where_nothing_was_seen(train, cohort):
    """On thinned counts zeros are answers too: a value of a measured count would be far too high."""
    lesson = draw_lesson(cohort[4], 0.5, np.random.default_rng(1), missing="any")
    measured = StackedCompleter(**FAST).fit(train)
    fresh = StackedCompleter(**FAST, missing="any").fit(train)
    assert error(fresh, lesson) < 0.5 * error(measured, lesson)
    assert fresh.estimate(lesson.section).mean.min() == 0  # a fresh count may be none, and is never less


def test_one_section_is_enough_and_a_handful_of_spots_is_not(cohort):
    one = Cohort((cohort[0],))
    assert np.isfinite(StackedCompleter(n_hidden=8, n_steps=2).fit(one).estimate(cohort[1]).mean).all()
    few = Cohort((planted_section(0, "D0", n_side=2),))
    with pytest.raises(InputError, match="at least 8 spots; use section_mean or knn"):
        StackedCompleter().fit(few)


def test_a_cohort_without_counts_is_told_what_to_use(cohort):
    table = cohort[0].table.copy()
    table.layers[keys.COUNTS] = 0 * table.layers[keys.COUNTS]
    with pytest.raises(InputError, match=r"no measured count .* use section_mean or knn"):
        StackedCompleter(n_hidden=4, n_steps=2).fit(Cohort((cohort[0].with_table(table),)))


def test_blocks_of_spots_do_not_change_the_result(fitted, lesson, monkeypatch):
    whole = fitted.estimate(lesson.section)
    monkeypatch.setattr(stacked, "BLOCK", N_GENES * 10)
    parts = fitted.estimate(lesson.section)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-4)
    np.testing.assert_allclose(parts.sd, whole.sd, atol=1e-4)


@pytest.mark.slow
def test_a_section_unlike_any_in_training_is_settled_by_its_own_counts(fitted, train):
    """Of a section measured far deeper, the two networks alone know less than its surroundings say."""
    deep = draw_lesson(planted_section(9, "D9", log_depth=8.5), 0.3, np.random.default_rng(2))
    unsettled = UnsettledCompleter(**FAST).fit(train)
    assert error(fitted, deep) < 0.9 * error(unsettled, deep)


def test_hidden_counts_cannot_be_read(fitted, cohort, lesson):
    """What settles a section is asked of visible counts alone: other hidden ones, far higher, change nothing."""
    table = cohort[4].table.copy()
    counts = table.layers[keys.COUNTS].toarray()
    counts[lesson.where] *= 50
    table.layers[keys.COUNTS], table.obs[keys.DEPTH] = counts, counts.sum(axis=1)
    other = draw_lesson(cohort[4].with_table(table), 0.3, np.random.default_rng(0))
    assert (other.answer[lesson.where] > lesson.answer[lesson.where] + 1).all()
    np.testing.assert_array_equal(fitted.estimate(other.section).mean, fitted.estimate(lesson.section).mean)


def test_the_order_of_spots_changes_nothing(fitted, lesson):
    order = np.random.default_rng(0).permutation(lesson.section.n_spots)
    shuffled = lesson.section.with_table(lesson.section.table[order].copy())
    np.testing.assert_allclose(fitted.estimate(shuffled).mean, fitted.estimate(lesson.section).mean[order], atol=1e-4)


class UnsettledCompleter(StackedCompleter):
    """The first two steps alone."""

    def _settle(self, pupil, first, second):
        return Settled.on(np.zeros((EntryFeatures.N, 0), np.float32), np.zeros(0), second)


def random_entries(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(EntryFeatures.N, n)).astype(np.float32), rng


def random_network():
    x, rng = random_entries(400, seed=1)
    return EntryNetwork.train(x, rng.normal(size=400).astype(np.float32), seed=0)


def test_a_section_without_answers_keeps_the_second_guess():
    network, (x, _) = random_network(), random_entries(50)
    settled = Settled.on(x[:, :0], np.zeros(0), network)
    value, sd = settled.infer(x, network)
    np.testing.assert_allclose(value, network.infer(x)[0], atol=1e-6)
    np.testing.assert_allclose(sd, network.infer(x)[1])


def test_settling_finds_a_guess_that_is_right_and_how_far_it_errs():
    """Planted: the first guess is right but for a constant, and a noise of sd 0.5."""
    network, (x, rng) = random_network(), random_entries(20_000)
    answer = x[0] + 1.5 + rng.normal(0, 0.5, x.shape[1])
    settled = Settled.on(x, answer, network)
    value, sd = settled.infer(x, network)
    assert np.mean((value - x[0] - 1.5) ** 2) < 0.01
    assert abs(np.sqrt(np.mean(((answer - value) / sd) ** 2)) - 1) < 0.01


def test_a_few_answers_hardly_move_the_second_guess():
    """Ten answers, each far off, stand against a hundred of the training donors, and twenty thousand do not."""
    network, (x, _) = random_network(), random_entries(20_000)
    guess, moved = network.infer(x)[0], []
    for n in (10, 20_000):
        settled = Settled.on(x[:, :n], guess[:n] + 2, network)
        moved.append(float(np.mean(settled.infer(x, network)[0] - guess)))
    assert abs(moved[0]) < 0.5
    assert moved[1] == pytest.approx(2, abs=0.1)


def test_the_unit_of_a_feature_does_not_matter_to_settling():
    network, (x, rng) = random_network(), random_entries(60)
    answer = rng.normal(size=60)
    unit = np.ones(EntryFeatures.N, np.float32)
    unit[list(LEVELS)] = 1000
    other = EntryNetwork(network.mean * unit, network.sd * unit, network.weights)
    x_other = x * unit[:, None]
    found = Settled.on(x_other, answer, other).infer(x_other, other)[0]
    np.testing.assert_allclose(found, Settled.on(x, answer, network).infer(x, network)[0], atol=1e-3)


def test_a_first_network_that_knows_nothing_says_how_far_the_spot_lies_above_its_section(fitted, lesson):
    view = View.of(lesson.section)
    centred, near = Centred.of(view, fitted.mean_), view.neighbourhoods(*_gene_network.NEAR)
    weights = {k: 0 * v for k, v in fitted.gene_network_.items()}
    mean, sd = weights.pop("mean"), weights.pop("sd") + 1
    found = _gene_network.GeneNetwork(mean, sd, weights).infer(centred, near, np.array([7, 3]))
    np.testing.assert_allclose(found, np.tile(centred.offset[[7, 3], None], N_GENES), rtol=1e-6)


def test_an_input_that_hardly_varied_in_training_does_not_shout(fitted, lesson):
    view = View.of(lesson.section)
    centred, near = Centred.of(view, fitted.mean_), view.neighbourhoods(*_gene_network.NEAR)
    weights = dict(fitted.gene_network_)
    mean, sd = weights.pop("mean"), weights.pop("sd")
    narrow = _gene_network.GeneNetwork(mean, sd * np.float32(1e-6), weights)
    assert np.abs(narrow.infer(centred, near, np.arange(20))).max() < 20  # log2, and a million times that without limit


@pytest.mark.slow
def test_the_first_network_alone_guesses_hidden_counts_and_not_zeros(fitted, train, lesson):
    """It is asked for what was hidden; zeros, which nobody knows the answer of, would draw its guesses down."""
    view = View.of(lesson.section)
    centred, near = Centred.of(view, fitted.mean_), view.neighbourhoods(*_gene_network.NEAR)
    weights = dict(fitted.gene_network_)
    network = _gene_network.GeneNetwork(weights.pop("mean"), weights.pop("sd"), weights)
    found = network.infer(centred, near, np.arange(lesson.section.n_spots)) + centred.mean
    squares = (found - lesson.answer)[lesson.where] ** 2
    assert squares.mean() < error(SectionMeanCompleter().fit(train), lesson)


def test_the_second_network_finds_how_far_answers_scatter():
    """Planted: noise of sd 3 about nothing, whose variance is 9."""
    x, rng = random_entries(8000)
    _, sd = EntryNetwork.train(x, rng.normal(0, 3, 8000).astype(np.float32), seed=0).infer(x)
    assert 2.4 < np.median(sd) < 3.6
