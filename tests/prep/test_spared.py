"""SpaRED's preparation: what it keeps, what it learns from whom, and how it fails."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.errors import FormatError, InputError, NotFittedError, PanelError, UnknownNameError
from hescribe.prep.spared import SparedPreparation, find_recipe
from hescribe.prep.spared_genes import Shares, listed_genes, measured_genes, read_gene_list, top_of, valid_spots
from hescribe.prep.spared_layers import DELTAS_OF

GENES = ("A", "B", "C", "D", "E")
LAYERS = {
    keys.COUNTS, keys.TPM, keys.LOG1P, keys.D_LOG1P, keys.C_LOG1P, keys.C_D_LOG1P, keys.DELTAS, keys.D_DELTAS,
    keys.C_DELTAS, keys.C_D_DELTAS, keys.MASK, keys.NOISY_C_D_LOG1P, keys.NOISY_C_D_DELTAS,
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(lengths):
    return {"gene_table": str(lengths), "n_genes": 6, "min_measured": 0.6}


@pytest.fixture(scope="module")
def published(shallow, settings):
    return find_recipe("spared-2024").with_params(**settings).fit(shallow, train=["s0", "s1", "s2", "s3"])


@pytest.fixture(scope="module")
def prepared(published, shallow):
    return published.transform(shallow)


def share(lowest, overall, total=None):
    return Shares(np.full(5, 100.0) if total is None else np.array(total), np.array(lowest), np.array(overall))


def test_limits_of_a_spot_s_counts_are_strict(shallow):
    total = np.asarray(shallow[0].table.layers[keys.COUNTS].sum(axis=1)).ravel()
    low, high = np.sort(np.unique(total))[[3, -3]]
    np.testing.assert_array_equal(valid_spots(shallow[0], low, high), (total >= low + 1) & (total <= high - 1))


def test_transcripts_per_million_add_up_over_the_retained_genes_not_the_kept_ones(shallow, settings):
    """How many genes are kept says nothing about the values of those that are."""
    few = SparedPreparation(**{**settings, "n_genes": 2}).fit(shallow).transform(shallow)
    more = SparedPreparation(**{**settings, "n_genes": 5}).fit(shallow).transform(shallow)
    assert more.genes[:2] == few.genes
    for one, other in zip(few, more, strict=True):
        np.testing.assert_array_equal(one.layer(keys.TPM), other.layer(keys.TPM)[:, :2])


class TestGeneChoice:
    def test_the_last_crossing_counts_not_the_first(self):
        # means of the first k: .6, .75, .6, .7, .62 - at least .7 at k = 2 and again at k = 4
        shares = share([0.5, 0.4, 0.3, 0.2, 0.1], [0.6, 0.9, 0.3, 1.0, 0.3])
        assert measured_genes(GENES, shares, (10, 1e6), 0.7) == [0, 1, 2, 3]

    def test_genes_are_sorted_by_their_lowest_share_and_equal_ones_by_name(self):
        shares = share([0.1, 0.5, 0.2, 0.5, 0.5], [1.0] * 5)
        assert measured_genes(("Z", "C", "Y", "A", "B"), shares, (10, 1e6), 0.7) == [3, 4, 1, 2, 0]

    def test_limits_of_counts_are_strict(self):
        shares = share([0.5] * 5, [1.0] * 5, total=[10, 11, 1e6, 999_999, 5])
        assert measured_genes(GENES, shares, (10, 1e6), 0.7) == [1, 3]

    def test_no_crossing_is_an_error_with_the_best_mean(self):
        with pytest.raises(InputError, match=r"measured in 70% of the spots: the best mean share is 60.0%"):
            measured_genes(GENES, share([0.5] * 5, [0.6] * 5), (10, 1e6), 0.7)

    def test_no_gene_between_the_limits_is_an_error(self):
        with pytest.raises(InputError, match="no gene has more than 100 and less than 1000"):
            measured_genes(GENES, share([0.5] * 5, [0.6] * 5), (100, 1000), 0.7)

    def test_the_share_is_that_of_the_section_where_it_is_lowest(self, shallow):
        masks = [np.ones(s.n_spots, dtype=bool) for s in shallow]
        shares = Shares.of(zip(shallow, masks, strict=True))
        seen = [(s.layer(keys.COUNTS) > 0).mean(axis=0) for s in shallow]
        np.testing.assert_allclose(shares.lowest, np.min(seen, axis=0))
        np.testing.assert_allclose(shares.overall, (shallow.stack(keys.COUNTS) > 0).mean(axis=0))

    def test_genes_rank_by_moran_undefined_ones_last_and_equal_ones_by_name(self):
        moran = np.array([0.1, np.nan, 0.5, 0.1, 0.3])
        assert top_of(("D", "A", "C", "B", "E"), moran, 5) == [2, 4, 3, 0, 1]

    @pytest.mark.parametrize(("n_there", "n_kept"), [(321, 128), (320, 32), (20, 20)])
    def test_without_a_number_it_follows_from_how_many_there_are(self, n_there, n_kept):
        assert len(top_of(tuple(map(str, range(n_there))), np.arange(n_there, dtype=float), 0)) == n_kept

    def test_more_genes_than_there_are_is_an_error(self):
        with pytest.raises(InputError, match="9 genes were asked for and 5 pass"):
            top_of(GENES, np.zeros(5), 9)

    def test_listed_genes_keep_the_order_of_the_list(self):
        assert listed_genes(GENES, ("D", "A")) == [3, 0]
        with pytest.raises(PanelError, match="lacks 1 of 2 listed genes: X"):
            listed_genes(GENES, ("A", "X"))
        with pytest.raises(InputError, match="names A twice"):
            listed_genes(GENES, ("A", "B", "A"))

    def test_a_gene_list_is_the_first_word_of_each_line(self, tmp_path):
        path = tmp_path / "genes.txt"
        path.write_text("A first\n\nB\n")
        assert read_gene_list(path) == ("A", "B")
        path.write_text("\n")
        with pytest.raises(FormatError, match="names no gene"):
            read_gene_list(path)


class TestLayers:
    def test_there_are_those_of_spared(self, prepared):
        for section in prepared:
            assert set(section.table.layers) == LAYERS

    def test_counts_are_those_that_came_in(self, prepared, shallow):
        for old, new in zip(shallow, prepared, strict=True):
            same = old.table[new.table.obs_names, list(new.genes)].layers[keys.COUNTS].toarray()
            np.testing.assert_array_equal(new.layer(keys.COUNTS), same)
            np.testing.assert_array_equal(new.depth, old.depth[old.table.obs_names.isin(new.table.obs_names)])

    def test_spots_with_too_few_counts_are_left_out_and_named(self, prepared, shallow):
        for old, new in zip(shallow, prepared, strict=True):
            gone = sorted(set(old.table.obs_names) - set(new.table.obs_names))
            assert old.table.obs_names[0] in gone
            assert sorted(new.table.uns[keys.DROPPED_SPOTS]) == gone

    def test_measured_entries_are_equal_across_layers(self, prepared, published):
        """The identity that lets raw and completed training be compared on the same values."""
        mask, mean = prepared.stack(keys.MASK), published.means_
        assert 0.2 < mask.mean() < 1

        def at(layer):
            return prepared.stack(layer)[mask]

        np.testing.assert_array_equal(at(keys.D_LOG1P), at(keys.LOG1P))
        np.testing.assert_array_equal(at(keys.NOISY_C_D_LOG1P), at(keys.C_D_LOG1P))
        np.testing.assert_array_equal(at(keys.NOISY_C_D_DELTAS), at(keys.C_D_DELTAS))
        shifted = prepared.stack(keys.C_D_DELTAS) + mean[keys.C_D_LOG1P]
        np.testing.assert_allclose(shifted[mask], at(keys.C_D_LOG1P), atol=1e-5)

    def test_gaps_of_noisy_layers_are_zero_and_minus_the_mean(self, prepared, published):
        gap = ~prepared.stack(keys.MASK)
        assert not prepared.stack(keys.NOISY_C_D_LOG1P)[gap].any()
        below = np.broadcast_to(-published.means_[keys.C_D_LOG1P], gap.shape)[gap]
        np.testing.assert_allclose(prepared.stack(keys.NOISY_C_D_DELTAS)[gap], below, rtol=1e-6)

    def test_deltas_have_mean_zero_over_the_train_sections_only(self, prepared):
        train = prepared.where(lambda s: s.id != "s4")
        for layer in DELTAS_OF.values():
            np.testing.assert_allclose(train.stack(layer).mean(axis=0), 0, atol=1e-5)
        assert np.abs(prepared.stack(keys.DELTAS).mean(axis=0)).max() > 1e-3

    def test_the_mask_is_where_something_was_counted(self, prepared):
        np.testing.assert_array_equal(prepared.stack(keys.MASK), prepared.stack(keys.COUNTS) > 0)

    def test_genes_without_a_length_are_left_out_and_so_are_mitochondrial_ones(self, published, shallow, settings):
        assert {"GENE01", "GENE03"} <= set(published.panels_.passed)
        assert not {"GENE01", "GENE03"} & set(published.panels_.retained)
        kept = SparedPreparation(**{**settings, "lengths": "all"}).fit(shallow)
        assert "GENE01" in kept.panels_.retained
        length = dict(zip(published.panels_.genes, published.facts_[keys.GENE_LENGTH], strict=True))
        assert all(length[g] == 500 + 100 * int(g.removeprefix("GENE")) for g in length)

    def test_genes_stand_in_descending_order_of_moran(self, published, prepared):
        assert np.all(np.diff(published.facts_[keys.D_LOG1P_MORAN]) <= 0)
        assert prepared.genes == published.panels_.genes
        assert len(prepared.genes) == 6

    def test_without_batches_there_are_no_corrected_layers(self, shallow, settings):
        alone = SparedPreparation(**settings, batch="none")
        layers = set(alone.fit(shallow).transform(shallow)[0].table.layers)
        assert layers == {
            keys.COUNTS, keys.TPM, keys.LOG1P, keys.D_LOG1P, keys.DELTAS, keys.D_DELTAS, keys.MASK,
            keys.NOISY_D_LOG1P, keys.NOISY_D_DELTAS,
        }  # fmt: skip

    def test_a_list_of_genes_takes_the_place_of_the_filter(self, shallow, settings):
        wanted = ("GENE20", "GENE05", "GENE03")
        listed = SparedPreparation(**{**settings, "n_genes": 2}, wildcard_genes=wanted).fit(shallow)
        assert listed.panels_.passed == wanted
        assert listed.panels_.retained == ("GENE20", "GENE05")

    def test_the_order_of_the_panel_does_not_matter(self, shallow, settings, prepared, published):
        turned = shallow.map(lambda s: s.with_table(s.table[:, ::-1].copy()))
        again = published.with_params().fit(turned, train=published.train_).transform(turned)
        assert again.genes == prepared.genes
        np.testing.assert_allclose(again.stack(keys.C_D_DELTAS), prepared.stack(keys.C_D_DELTAS), atol=1e-6)

    def test_layers_and_facts_survive_the_disk(self, prepared, tmp_path):
        write_cohort(prepared, tmp_path / "c")
        back = read_cohort(tmp_path / "c")
        for layer in LAYERS:
            np.testing.assert_array_equal(back.stack(layer), prepared.stack(layer))
        for column in (*keys.MEANS, keys.D_LOG1P_MORAN, keys.EXP_FRAC):
            np.testing.assert_array_equal(back[0].table.var[column], prepared[0].table.var[column])
        assert back.card.warnings == prepared.card.warnings


class TestWhoIsSeen:
    """In a fold, nothing that is fitted depends on the held-out sections."""

    TRAIN = ("s0", "s1", "s2", "s3")

    @staticmethod
    def spoiled(cohort):
        """Return the cohort with the counts of the held-out section s4 given to other genes, and larger."""

        def spoil(section):
            if section.id != "s4":
                return section
            table = section.table.copy()
            counts = table.layers[keys.COUNTS].toarray()[:, np.roll(np.arange(30), 7)] * 7
            table.layers[keys.COUNTS] = sparse.csr_matrix(counts)
            return section.with_table(table)

        return cohort.map(spoil)

    def test_on_train_what_is_fitted_ignores_held_out_counts(self, shallow, settings):
        preparation = SparedPreparation(**settings)
        one = preparation.with_params().fit(shallow, train=self.TRAIN)
        two = preparation.with_params().fit(self.spoiled(shallow), train=self.TRAIN)
        assert one.panels_.genes == two.panels_.genes
        for layer, mean in one.means_.items():
            np.testing.assert_array_equal(mean, two.means_[layer])
        for layer, combat in one.combat_.items():
            for name, value in combat.get_fitted().items():
                np.testing.assert_array_equal(value, two.combat_[layer].get_fitted()[name])
        s0 = (one.transform(shallow[0]), two.transform(shallow[0]))
        np.testing.assert_array_equal(s0[0].layer(keys.C_D_DELTAS), s0[1].layer(keys.C_D_DELTAS))

    def test_fitting_on_a_cohort_of_train_sections_is_the_same_as_naming_them(self, shallow, settings):
        alone = SparedPreparation(**settings).fit(shallow.where(lambda s: s.id in self.TRAIN))
        named = SparedPreparation(**settings).fit(shallow, train=self.TRAIN)
        np.testing.assert_array_equal(
            alone.transform(shallow).stack(keys.C_DELTAS), named.transform(shallow).stack(keys.C_DELTAS)
        )

    def test_as_published_held_out_counts_change_the_fit(self, shallow, settings):
        published = find_recipe("spared-2024").with_params(**settings)
        one = published.with_params().fit(shallow, train=self.TRAIN)
        two = published.with_params().fit(self.spoiled(shallow), train=self.TRAIN)
        assert one.panels_.passed != two.panels_.passed

    def test_a_new_batch_is_left_as_it_is(self, shallow, settings):
        fitted = SparedPreparation(**settings).fit(shallow, train=self.TRAIN)
        new = fitted.transform(shallow[4])
        np.testing.assert_array_equal(new.layer(keys.C_LOG1P), new.layer(keys.LOG1P))
        np.testing.assert_array_equal(new.layer(keys.C_D_LOG1P), new.layer(keys.D_LOG1P))
        assert fitted.new_batches(shallow) == ("D2",)
        assert not fitted.uses_truth

    def test_on_measured_entries_a_new_section_depends_on_the_spot_alone(self, shallow, settings):
        """Neighbours fill gaps; what a prediction is scored on comes from the spot's own counts."""
        fitted = SparedPreparation(**settings).fit(shallow, train=self.TRAIN)
        table = shallow[4].table.copy()
        counts = table.layers[keys.COUNTS].toarray()
        counts[20:] = counts[20:] * 3 + 1
        table.layers[keys.COUNTS] = sparse.csr_matrix(counts)
        old, new = fitted.transform(shallow[4]), fitted.transform(shallow[4].with_table(table))
        same = [n for n in old.table.obs_names if n in set(shallow[4].table.obs_names[:20])]
        a, b = old.table[same], new.table[same]
        mask = a.layers[keys.MASK]
        for layer in (keys.C_D_DELTAS, keys.D_LOG1P, keys.NOISY_C_D_LOG1P):
            np.testing.assert_array_equal(a.layers[layer][mask], b.layers[layer][mask])

    def test_a_new_batch_is_corrected_by_its_own_values_only_on_request(self, shallow, settings):
        asked = SparedPreparation(**settings, correct_new_batch=True).fit(shallow, train=self.TRAIN)
        new = asked.transform(shallow[4])
        assert np.abs(new.layer(keys.C_LOG1P) - new.layer(keys.LOG1P)).max() > 0.05
        assert asked.uses_truth

    def test_sections_of_a_new_batch_are_corrected_together(self, shallow, settings):
        asked = SparedPreparation(**settings, correct_new_batch=True).fit(shallow, train=("s0", "s1", "s4"))
        together = asked.transform(shallow)
        assert not np.array_equal(together[2].layer(keys.C_LOG1P), asked.transform(shallow[2]).layer(keys.C_LOG1P))
        np.testing.assert_array_equal(together[0].layer(keys.C_LOG1P), asked.transform(shallow[0]).layer(keys.C_LOG1P))

    def test_the_cohort_says_what_was_seen(self, prepared, shallow, settings):
        assert "saw the held-out sections s4 too" in prepared.card.warnings[-1]
        fold = SparedPreparation(**settings).fit(shallow, train=self.TRAIN).transform(shallow)
        assert "train sections alone; held out: s4" in fold.card.warnings[-1]


class TestBadInput:
    def test_a_cohort_that_was_prepared_already_is_refused(self, prepared, settings, tmp_path):
        write_cohort(prepared, tmp_path / "prepared")
        with pytest.raises(InputError, match=r"was prepared already: .*; prepare the cohort that it was made of"):
            SparedPreparation(**settings).fit(read_cohort(tmp_path / "prepared"))

    def test_a_section_without_a_valid_spot_is_named(self, shallow):
        with pytest.raises(InputError, match=r"section s0 has no spot with more than 900 and less than 1e\+06 counts"):
            SparedPreparation(min_spot_counts=900).fit(shallow)

    def test_one_batch_is_refused_before_anything_is_computed(self, shallow):
        with pytest.raises(InputError, match=r"of donor D0, and ComBat needs two.*batch='section' or batch='none'"):
            SparedPreparation().fit(shallow, train=["s0", "s1"])

    def test_an_unknown_organism_needs_a_table(self, shallow):
        with pytest.raises(InputError, match="no gene table for the organism 'unknown'"):
            SparedPreparation(min_measured=0.6).fit(shallow)

    def test_a_table_of_another_organism_is_noticed(self, shallow):
        human = shallow.map(lambda s: replace(s, card=replace(s.card, organism="Homo sapiens")))
        with pytest.raises(InputError, match=r"none of the \d+ genes that pass has a length"):
            SparedPreparation(min_measured=0.6).fit(human)

    def test_an_unknown_train_section_is_named(self, shallow):
        with pytest.raises(InputError, match="no section 's9'; it has s0, s1"):
            SparedPreparation().fit(shallow, train=["s0", "s9"])
        with pytest.raises(InputError, match="no train section is named"):
            SparedPreparation().fit(shallow, train=[])

    def test_genes_that_a_new_section_lacks_are_named(self, published, shallow):
        gene = published.panels_.passed[0]
        less = shallow[0].with_table(shallow[0].table[:, shallow[0].table.var_names != gene].copy())
        with pytest.raises(PanelError, match=rf"s0 lacks 1 of the \d+ genes .* fitted on: {gene}"):
            published.transform(less)

    def test_transform_before_fit_is_refused(self, shallow):
        with pytest.raises(NotFittedError):
            SparedPreparation().transform(shallow)

    def test_parameters_out_of_range_are_named(self, shallow):
        with pytest.raises(InputError, match="min_measured of SparedPreparation must be between 0 and 1"):
            SparedPreparation(min_measured=70).fit(shallow)

    def test_a_recipe_that_does_not_exist_is_answered_with_those_that_do(self):
        with pytest.raises(UnknownNameError, match="'spared-2025'; known: spared-2024, spared-train"):
            find_recipe("spared-2025")
