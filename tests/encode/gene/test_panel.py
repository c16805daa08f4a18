"""Encoders that are fitted on a panel: scaling by hand, references, and what they can and cannot learn."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.encode.gene._panel import PanelScale
from hescribe.encode.gene._panel_networks import HalvesNetwork, SplitNetwork, log_negative_binomial, train_panel
from hescribe.encode.gene.base import stack_counts
from hescribe.encode.gene.drvi import DRVIEncoder
from hescribe.encode.gene.mlp import MLPEncoder
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, PanelError
from hescribe.testing.cohorts import colour_section
from hescribe.train.loop import Recipe, seeded


def cohort_of(counts, *, n_sections=2):
    """Sections that share the rows of a table of counts; 16 spots each."""
    sections = []
    for i in range(n_sections):
        section = colour_section(i, f"D{i}", n_side=4, n_genes=counts.shape[1])
        table = section.table.copy()
        table.layers[keys.COUNTS] = counts[16 * i : 16 * (i + 1)].astype(np.float32)
        sections.append(section.with_table(table))
    return Cohort(tuple(sections))


def two_kinds(seed=0, n_sections=8, shift=0.0):
    """Spots of two kinds, each with half of the genes high, and depths that tell nothing of it."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=16 * n_sections)
    rate = np.where(kind[:, None] == np.arange(12) % 2, 4.0, 1.0) * rng.lognormal(0, 0.5, (len(kind), 1))
    rate[: len(kind) // 2, :6] *= np.exp(shift)  # half of the sections were measured otherwise
    return cohort_of(rng.poisson(rate), n_sections=n_sections), kind


def accuracy(x, kind):
    """Share of spots whose nearest other spot is of their kind."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.mean(kind[distance.argmin(axis=1)] == kind)


class TestScaling:
    COUNTS = np.tile([[1, 3, 0, 4], [2, 2, 2, 10]], (16, 1))  # totals 8 and 16: median 12

    def test_brings_every_spot_to_the_median_total_of_the_train_spots(self):
        scale, _ = PanelScale.fit(cohort_of(self.COUNTS), keep_depth=False)
        assert scale.total == 12
        logs = np.log1p([[1.5, 4.5, 0, 6], [1.5, 1.5, 1.5, 7.5]])
        np.testing.assert_allclose(scale.mean, logs.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(scale.transform(self.COUNTS[:2]), logs - logs.mean(axis=0), atol=1e-6)

    def test_keeps_depth_where_it_is_asked_to(self):
        scale, _ = PanelScale.fit(cohort_of(self.COUNTS), keep_depth=True)
        logs = np.log1p(self.COUNTS[:2])
        np.testing.assert_allclose(scale.transform(self.COUNTS[:2]), logs - logs.mean(axis=0), atol=1e-6)

    def test_a_gene_that_a_panel_lacks_stands_at_the_train_mean(self):
        scale, _ = PanelScale.fit(cohort_of(self.COUNTS), keep_depth=True)
        x = scale.apply(self.COUNTS[:1, [3, 0]], ("GENE3", "GENE0"), "x")
        assert x[0, 1] == x[0, 2] == 0
        np.testing.assert_allclose(x[0, [0, 3]], np.log1p([1, 4]) - scale.mean[[0, 3]], rtol=1e-5)

    def test_a_panel_with_few_of_the_fitted_genes_is_refused(self):
        scale, _ = PanelScale.fit(cohort_of(self.COUNTS), keep_depth=True)
        with pytest.raises(PanelError, match="was fitted on 4 genes and the panel has 1 of them"):
            scale.apply(self.COUNTS[:, :1], ("GENE0",), "pca")


def test_pca_equals_scikit_learn_up_to_the_sign():
    cohort, _ = two_kinds()
    encoder = PCAEncoder(n_dims=3).fit(cohort)
    counts = stack_counts(cohort)
    x = np.log1p(counts * (np.median(counts.sum(axis=1)) / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
    expected = PCA(3, svd_solver="full").fit_transform(x.astype(np.float64))
    found = encoder.encode(counts, cohort.genes)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


class TestShrink:
    """One direction of real difference among twelve genes; the rest of a score is the noise of counting."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls):
        cohort, kind = two_kinds(n_sections=40)
        return cohort, kind, PCAEncoder(n_dims=6).fit(cohort), PCAEncoder(n_dims=6, shrink=True).fit(cohort)

    def test_the_share_of_signal_is_that_of_an_independent_estimate(self, both):
        """Covariance of the scores of two halves of the counts, by which noise that they do not share drops out."""
        cohort, _, plain, shrunk = both
        counts = np.concatenate([s.layer(keys.COUNTS) for s in cohort]).astype(int)
        half = np.random.default_rng(1).binomial(counts, 0.5)
        one, other = (plain.encode(h.astype(np.float32), cohort.genes) for h in (half, counts - half))
        covariance = ((one - one.mean(axis=0)) * (other - other.mean(axis=0))).mean(axis=0)
        assert shrunk.signal_[0] == pytest.approx(covariance[0], rel=0.3)
        assert shrunk.signal_[0] > 5 * shrunk.signal_[1:].max()

    def test_a_shallow_spot_is_told_by_the_component_that_it_can_still_show(self, both):
        cohort, _, plain, shrunk = both
        row = cohort[0].layer(keys.COUNTS)[:1] + 1
        left = {
            depth: (shrunk.encode(row * depth, cohort.genes) / plain.encode(row * depth, cohort.genes))[0]
            for depth in (1, 50)
        }
        assert (left[1] < left[50]).all()
        assert (left[50][0], left[1][0]) == pytest.approx((1.0, 1.0), abs=0.25)
        assert left[1][1:].max() < left[1][0]
        by_hand = shrunk.signal_ / (shrunk.signal_ + shrunk.noise_ / row.sum())
        np.testing.assert_allclose(left[1], by_hand, rtol=1e-4)

    def test_kinds_are_told_apart_more_often_once_counts_are_lost(self, both):
        cohort, kind, plain, shrunk = both
        counts = np.concatenate([s.layer(keys.COUNTS) for s in cohort]).astype(int)
        few = np.random.default_rng(2).binomial(counts, 0.15).astype(np.float32)
        assert accuracy(shrunk.encode(few, cohort.genes), kind) > accuracy(plain.encode(few, cohort.genes), kind) + 0.02

    def test_its_card_says_that_it_sees_depth(self, both):
        *_, plain, shrunk = both
        assert (plain.card.sees_depth, shrunk.card.sees_depth) == (False, True)


def test_pca_asks_for_fewer_components_than_genes():
    with pytest.raises(InputError, match="must be below the 12 genes and the 128 train spots, got 12"):
        PCAEncoder(n_dims=12).fit(two_kinds()[0])


@pytest.mark.parametrize(
    "encoder", [PCAEncoder(n_dims=2), MLPEncoder(n_dims=16, n_steps=60), DRVIEncoder(n_dims=4, n_steps=60)]
)
def test_an_encoder_tells_kinds_of_new_donors_apart(encoder):
    cohort, kind = two_kinds()
    train = cohort.where(lambda s: int(s.id[1:]) < 6)
    x = encoder.fit(train).encode(stack_counts(cohort)[96:], cohort.genes)
    assert accuracy(x, kind[96:]) > 0.9


def test_shuffled_genes_teach_an_encoder_nothing():
    """A planted fault: each gene permuted over spots leaves no kinds to be told apart."""
    cohort, kind = two_kinds()
    counts, rng = stack_counts(cohort), np.random.default_rng(0)
    shuffled = np.column_stack([rng.permutation(gene) for gene in counts.T])
    x = PCAEncoder(n_dims=2).fit(cohort).encode(shuffled, cohort.genes)
    assert accuracy(x, kind) < 0.65


class TestHalves:
    def test_are_drawn_anew_and_add_up_to_the_counts(self):
        seen = []

        class Recording(HalvesNetwork):
            def loss(self, x, counts, other, section, weight):
                seen.append((x.detach().clone(), counts, other))
                return super().loss(x, counts, other, section, weight)

        counts = np.random.default_rng(0).poisson(5.0, (32, 12)).astype(np.float32)
        section = np.zeros(32, dtype=np.int64)
        train_panel(Recording(12, 4), lambda c: c.astype(np.float32), counts, section, Recipe(batch_size=32), n_steps=3)
        for read, whole, other in seen:
            torch.testing.assert_close(read + other, whole)
            assert 0.45 < float(read.sum() / whole.sum()) < 0.55
        assert not torch.equal(seen[0][0].sort(dim=0).values, seen[1][0].sort(dim=0).values)


class TestDrvi:
    def test_the_likelihood_is_that_of_scipy(self):
        counts, mean, r = np.array([0.0, 1.0, 7.0, 40.0]), np.array([0.3, 2.0, 5.0, 30.0]), 1.7
        found = log_negative_binomial(
            torch.tensor(counts), torch.tensor(mean).log(), torch.full((4,), np.log(r), dtype=torch.float64)
        )
        np.testing.assert_allclose(found, stats.nbinom.logpmf(counts, r, r / (r + mean)), rtol=1e-9)

    def test_the_decoder_adds_up_what_each_dimension_says_alone(self):
        with seeded(0):
            network = SplitNetwork(5, 3, 2).eval()
        z, section = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([1])
        inputs = [torch.cat([z[0, k] * network.split[k], network.section(section)[0]]) for k in range(3)]
        network.start(torch.tensor([2.0, 1.0, 1.0, 4.0, 2.0]))  # a mean spot has 10 counts
        alone = [network.to_genes(network.say(x)).exp() for x in inputs]
        rate = network.log_rate(z, section, torch.tensor([30.0]))[0].exp()
        torch.testing.assert_close(rate, 3 * sum(alone))

    def test_training_explains_counts_better(self):
        cohort, _ = two_kinds()
        counts = torch.from_numpy(stack_counts(cohort))

        def explained(n_steps):
            encoder = DRVIEncoder(n_dims=4, n_steps=n_steps).fit(cohort)
            network, x = encoder.restore(), torch.from_numpy(encoder._scale().transform(counts.numpy()))
            rate = network.log_rate(network.embed(x), torch.arange(8).repeat_interleave(16), counts.sum(dim=1))
            return log_negative_binomial(counts, rate, network.log_dispersion).sum(dim=1).mean().item()

        assert explained(60) > explained(1) + 2

    def test_a_fit_begins_at_the_mean_of_each_gene(self):
        with seeded(0):
            network = SplitNetwork(3, 4, 1).eval()
        network.start(torch.tensor([0.01, 1.0, 100.0]))
        rate = network.log_rate(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([101.01]))[0].exp()
        assert ((rate / torch.tensor([0.01, 1.0, 100.0])).log().abs() < 1.5).all()

    def test_depth_is_told_to_the_decoder_so_that_the_embedding_need_not_hold_it(self):
        rng = np.random.default_rng(0)
        same = cohort_of(rng.poisson(3.0 * rng.lognormal(0, 0.8, (128, 1)) * np.ones(12)), n_sections=8)
        kinds, _ = two_kinds()
        spread = [
            DRVIEncoder(n_dims=4, n_steps=200).fit(c).encode(stack_counts(c), c.genes).var(axis=0).sum()
            for c in (same, kinds)
        ]
        assert spread[0] < 0.3 * spread[1]

    def test_sections_are_told_to_the_decoder_so_that_the_embedding_need_not_hold_them(self):
        cohort, kind = two_kinds(shift=1.0)
        x = DRVIEncoder(n_dims=4, n_steps=100).fit(cohort).encode(stack_counts(cohort), cohort.genes)
        assert accuracy(x, kind) > 0.8


@pytest.mark.parametrize("encoder", [MLPEncoder(), DRVIEncoder()])
@pytest.mark.parametrize(
    ("given", "told"),
    [({"n_dims": 0}, "n_dims of"), ({"n_steps": 0}, "n_steps of"), ({"batch_size": 1}, "batch_size of")],
)
def test_parameters_out_of_their_limits_are_refused(encoder, given, told):
    with pytest.raises(InputError, match=told):
        encoder.with_params(**given).fit(two_kinds()[0])


def test_one_spot_is_too_few_for_a_network():
    cohort = two_kinds()[0].map(lambda s: s.with_kept((np.arange(16) == 0) & (s.id == "s0")))
    with pytest.raises(InputError, match="at least 2 train spots"):
        DRVIEncoder(n_dims=2).fit(cohort)


def test_no_kept_spot_is_said():
    with pytest.raises(InputError, match="no spot of the train cohort is kept"):
        PCAEncoder(n_dims=2).fit(two_kinds()[0].map(lambda s: s.with_kept(np.zeros(16, dtype=bool))))


def test_weights_of_another_network_are_refused():
    fitted = DRVIEncoder(n_dims=4, n_steps=1).fit(two_kinds()[0])
    wrong = DRVIEncoder(n_dims=5).set_fitted(fitted.get_fitted())
    with pytest.raises(Exception, match="the weights are not those of this network"):
        wrong.restore()
