"""Retrieval scores: hand-computed pools, planted faults, and what no method may gain by."""

import numpy as np
import pytest

from hescribe.errors import InputError
from hescribe.metrics.pairs import Pairs, centre_sections, profiles_without_depth, remove_depth
from hescribe.metrics.pools import draw_pools
from hescribe.metrics.retrieval import CARDS, hescape_recall, score_retrieval

SECTION = np.repeat(["a1", "a2", "b1", "c1"], [40, 40, 60, 80])
DONOR = np.array([s[0] for s in SECTION])
N = len(SECTION)


def pairs_of(image, expression, **more):
    return Pairs(image=image, expression=expression, section=SECTION, donor=DONOR, **more)


def noisy_pairs(noise=1.0, **more):
    rng = np.random.default_rng(0)
    spots = rng.normal(size=(N, 16))
    return pairs_of(spots, spots + noise * rng.normal(size=spots.shape), **more)


def values(rows, metric, **where):
    found = [r for r in rows if r.metric == metric and all(getattr(r, k) == v for k, v in where.items())]
    assert found
    return np.array([r.value for r in found])


class TestByHand:
    """Three spots of one section; image i is nearest to the expression of spot ORDER[i]."""

    PAIRS = Pairs(
        image=np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]]),
        expression=np.array([[1.0, 0.1], [0.9, 0.2], [-1.0, 0.0]]),
        section=np.array(["s"] * 3),
        donor=np.array(["d"] * 3),
    )  # ranks of the pairs from image to expression: 1, 1, 1; back: spot 1 finds image 0 first, then its own

    def rows(self):
        return score_retrieval(self.PAIRS, pools=("within_section",), sizes=(None,))

    def test_recall_of_both_directions(self):
        assert values(self.rows(), "recall_at_1", direction="image_to_expression") == 1
        assert values(self.rows(), "recall_at_1", direction="expression_to_image") == pytest.approx(2 / 3)
        assert values(self.rows(), "recall_at_5", direction="expression_to_image") == 1

    def test_median_rank_and_auc(self):
        assert values(self.rows(), "median_rank", direction="expression_to_image") == 1
        assert values(self.rows(), "auc", direction="expression_to_image") == pytest.approx((1 + 0.5 + 1) / 3)

    def test_chance_and_true_size_stand_in_the_row(self):
        rows = score_retrieval(self.PAIRS, pools=("within_section",), sizes=(64,))
        assert {(r.asked_size, r.pool_size, r.n_queries, r.rule) for r in rows} == {(64, 3, 3, "pair")}
        chance = {r.metric: r.chance for r in rows}
        assert chance == {
            "recall_at_1": pytest.approx(1 / 3), "recall_at_5": 1, "recall_at_10": 1, "recall_at_50": 1,
            "median_rank": 2, "auc": 0.5,
        }  # fmt: skip

    def test_lift_is_recall_over_chance(self):
        (row,) = [r for r in self.rows() if r.metric == "recall_at_1" and r.direction == "expression_to_image"]
        assert row.lift == pytest.approx(2)


class TestPools:
    @pytest.mark.parametrize(
        ("kind", "size", "true"),
        [
            ("within_section", 64, 40), ("within_section", 20, 20), ("across_sections", 64, 64),
            ("across_sections", None, 80), ("mixed", 64, 64), ("mixed", 256, 168), ("mixed", None, 180),
            ("across_donors", 64, 64), ("across_donors", 256, 140),
        ],
    )  # fmt: skip
    def test_have_the_size_they_say(self, kind, size, true):
        pools = list(draw_pools(noisy_pairs(), np.flatnonzero(SECTION == "a1"), kind, size, seed=0))
        assert {len(p.candidates) for p in pools} == {true}
        assert all(len(set(p.candidates)) == true for p in pools)

    @pytest.mark.parametrize("kind", ["within_section", "across_sections", "mixed", "across_donors"])
    def test_ask_every_query_once(self, kind):
        queries = np.flatnonzero(SECTION == "a1")
        pools = list(draw_pools(noisy_pairs(), queries, kind, 16, seed=0))
        assert sorted(np.concatenate([p.queries for p in pools])) == list(queries)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("within_section", {"a1": 32}), ("across_sections", {"a1": 16, "a2": 16}),
            ("mixed", {"a1": 16, "b1": 8, "c1": 8}), ("across_donors", {"b1": 16, "c1": 16}),
        ],
    )  # fmt: skip
    def test_take_of_each_section_what_they_say(self, kind, expected):
        for pool in draw_pools(noisy_pairs(), np.flatnonzero(SECTION == "a1"), kind, 32, seed=0):
            names, n = np.unique(SECTION[pool.candidates], return_counts=True)
            assert dict(zip(names.tolist(), n.tolist(), strict=True)) == expected
            assert set(SECTION[pool.candidates[: pool.n_near]]) <= {"a1"}

    @pytest.mark.parametrize("kind", ["within_section", "across_sections", "mixed"])
    def test_hold_the_pair_of_every_query(self, kind):
        for pool in draw_pools(noisy_pairs(), np.flatnonzero(SECTION == "a1"), kind, 16, seed=0):
            assert set(pool.queries) <= set(pool.candidates[: pool.n_near])

    def test_of_a_donor_with_one_section_are_undefined_and_counted(self):
        rows = score_retrieval(noisy_pairs(), pools=("across_sections",), sizes=(64,))
        undefined = {r.section for r in rows if np.isnan(r.value)} - {"a1", "a2"}
        assert undefined == {"b1", "c1"}
        assert {r.pool_size for r in rows if r.section == "b1"} == {0}
        assert np.isfinite(values(rows, "recall_at_5", section="a1")).all()

    def test_are_asked_by_chosen_spots_only(self):
        rows = score_retrieval(noisy_pairs(), pools=("mixed",), sizes=(None,), asking=SECTION == "b1")
        assert {(r.section, r.n_queries, r.pool_size) for r in rows} == {("b1", 60, 220)}


class TestSkill:
    @pytest.mark.parametrize("pool", ["within_section", "across_sections", "mixed"])
    def test_equal_sides_are_found_first(self, pool):
        rows = score_retrieval(noisy_pairs(noise=0), pools=(pool,), sizes=(64,), asking=SECTION < "b")
        assert (values(rows, "recall_at_1") == 1).all()
        assert (values(rows, "auc") == 1).all()
        assert (values(rows, "median_rank") == 1).all()

    def test_permuted_pairs_are_found_by_chance(self):
        pairs, order = noisy_pairs(), np.random.default_rng(1).permutation(N)
        rows = score_retrieval(pairs_of(pairs.image, pairs.expression[order]), pools=("within_section",), sizes=(None,))
        assert values(rows, "auc").mean() == pytest.approx(0.5, abs=0.04)  # sd of a section about .04
        lift = [r.lift for r in rows if r.metric == "recall_at_5"]
        assert np.mean(lift) == pytest.approx(1, abs=0.35)

    @pytest.mark.parametrize("without_depth", [False, True])
    def test_collapsed_embeddings_score_exactly_chance(self, without_depth):
        flat = np.full((N, 3), 0.7) * (1 + 1e-13 * np.arange(N)[:, None])
        pairs = pairs_of(flat, flat, depth=np.arange(N) + 1.0, profile=np.random.default_rng(0).normal(size=(N, 5)))
        for row in score_retrieval(pairs, asking=SECTION < "b", without_depth=without_depth):
            assert row.value == pytest.approx(row.chance, rel=1e-9), row

    def test_in_pools_of_other_donors_likeness_is_what_is_found(self):
        rng = np.random.default_rng(0)
        profile = rng.normal(size=(N, 30))
        told = profile - np.array([profile[s == SECTION].mean(axis=0) for s in SECTION])
        kept = {"depth": np.exp(rng.normal(size=N)), "profile": profile}
        alike = score_retrieval(pairs_of(told, told, **kept), pools=("across_donors",), sizes=(64,))
        noise = score_retrieval(noisy_pairs(noise=0, **kept), pools=("across_donors",), sizes=(64,))
        assert values(alike, "recall_at_1").min() > 0.7  # a little is lost with depth
        assert values(noise, "recall_at_1").mean() == pytest.approx(10 / 64, abs=0.06)
        assert {(r.rule, round(r.chance, 4)) for r in alike if r.metric == "recall_at_1"} == {("nearest_10", 0.1562)}

    def test_depth_alone_finds_nothing_once_depth_is_taken_out(self):
        depth = np.exp(np.random.default_rng(0).normal(6, 1, N))
        arc = np.column_stack([np.cos(np.log(depth) / 9), np.sin(np.log(depth) / 9)])
        line = np.log(depth)[:, None] * [1.0, 2.0] + 3
        pairs = pairs_of(line, arc, depth=depth)
        assert values(score_retrieval(pairs_of(arc, arc, depth=depth), pools=("mixed",)), "auc").min() > 0.99
        assert values(score_retrieval(pairs, pools=("mixed",), without_depth=True), "auc").mean() < 0.55


class TestSlideConfusion:
    def rows(self, pairs):
        return score_retrieval(pairs, pools=("mixed",), sizes=(None,), asking=SECTION == "b1")

    def test_an_offset_on_one_side_sends_queries_to_other_sections(self):
        rng = np.random.default_rng(0)
        spots = rng.normal(size=(N, 8))
        shift = np.where(SECTION == "b1", 6.0, 0.0)[:, None] * np.eye(8)[0]
        rows = self.rows(pairs_of(spots + shift, spots - shift))
        assert values(rows, "other_section").min() > 0.9
        assert values(rows, "recall_at_5").max() < 0.05
        mended = self.rows(centre_sections(pairs_of(spots + shift, spots - shift)))
        assert values(mended, "recall_at_1").min() > 0.9

    def test_a_slide_known_by_its_stain_finds_merely_its_slide(self):
        one_hot = (SECTION[:, None] == np.unique(SECTION)).astype(float)
        rows = self.rows(pairs_of(one_hot, one_hot))
        np.testing.assert_allclose(values(rows, "slide_confusion"), 59 / 60)  # the pair among 60 that tie
        assert (values(rows, "other_section") == 0).all()
        np.testing.assert_allclose(values(rows, "recall_at_1"), 1 / 60)
        assert {(r.metric, round(r.chance, 4)) for r in rows if "section" in r.metric or "slide" in r.metric} == {
            ("slide_confusion", round(59 / 220, 4)), ("other_section", round(160 / 220, 4)),
        }  # fmt: skip


class TestDepth:
    def test_taking_it_out_equals_least_squares_and_leaves_the_level(self):
        depth = np.exp(np.random.default_rng(1).normal(6, 1, N))
        pairs = noisy_pairs(depth=depth)
        rows, out = SECTION == "c1", remove_depth(pairs).image
        design = np.column_stack([np.ones(80), np.log(depth[rows]) - np.log(depth[rows]).mean()])
        slope = np.linalg.lstsq(design, pairs.image[rows], rcond=None)[0][1]
        np.testing.assert_allclose(out[rows], pairs.image[rows] - np.outer(design[:, 1], slope), atol=1e-12)
        np.testing.assert_allclose(out[rows].mean(axis=0), pairs.image[rows].mean(axis=0), atol=1e-12)

    def test_profiles_do_not_tell_sections_or_depth(self):
        rng = np.random.default_rng(2)
        depth = np.exp(rng.normal(6, 1, N))
        gene = rng.normal(size=N)
        profile = np.column_stack([gene, np.log(depth)]) + (SECTION == "c1")[:, None] * 9.0
        found = profiles_without_depth(noisy_pairs(depth=depth, profile=profile))
        assert np.abs(found[:, 1]).max() < 1e-9
        assert abs(found[SECTION == "c1", 0].mean()) < 0.3

    @pytest.mark.parametrize("given", [{"without_depth": True}, {"pools": ("across_donors",)}])
    def test_is_asked_for_where_it_is_needed(self, given):
        with pytest.raises(InputError, match=r"give Pairs\((depth|profile)=\)"):
            score_retrieval(noisy_pairs(), **given)


class TestBadInput:
    def test_a_value_that_is_not_finite_is_named_with_its_spot(self):
        image = np.ones((N, 2))
        image[7, 1] = np.nan
        with pytest.raises(
            InputError, match=r"image holds NaN or infinity at 1 of .* spots; the first is spot 7, of section"
        ):
            pairs_of(image, np.ones((N, 2)))

    def test_a_transposed_side_is_refused(self):
        with pytest.raises(InputError, match=r"shapes \(220, 16\) and \(16, 220\)"):
            pairs_of(noisy_pairs().image, noisy_pairs().image.T)

    def test_a_section_of_two_donors_is_refused(self):
        with pytest.raises(InputError, match="section s has the donors x and y"):
            Pairs(
                image=np.ones((2, 1)),
                expression=np.ones((2, 1)),
                section=np.array(["s", "s"]),
                donor=np.array(["x", "y"]),
            )

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"pools": ("nearby",)}, "no pool 'nearby'; known: within_section"),
            ({"sizes": (1,)}, "a pool of 1 has nothing to choose from"),
            ({"asking": np.zeros(N, dtype=bool)}, "one that asks at least"),
            ({"asking": np.arange(N)}, "mask of bool over 220 spots"),
        ],
    )
    def test_of_a_score_is_refused(self, given, told):
        with pytest.raises(InputError, match=told):
            score_retrieval(noisy_pairs(), **{"pools": ("within_section",)} | given)


def test_every_score_has_a_card_and_stays_within_its_bounds():
    pairs = noisy_pairs(depth=np.arange(N) + 1.0, profile=np.random.default_rng(0).normal(size=(N, 5)))
    rows = score_retrieval(pairs, sizes=(16, None))
    assert {r.metric for r in rows} == set(CARDS)
    for row in rows:
        low, high = CARDS[row.metric].bounds
        assert np.isnan(row.value) or low <= row.value <= high


def test_scores_do_not_depend_on_the_order_of_spots_when_all_are_candidates():
    pairs, order = noisy_pairs(), np.random.default_rng(3).permutation(N)
    other = Pairs(
        image=pairs.image[order], expression=pairs.expression[order], section=SECTION[order], donor=DONOR[order]
    )
    one, two = (score_retrieval(p, pools=("within_section", "mixed"), sizes=(None,)) for p in (pairs, other))
    np.testing.assert_allclose([r.value for r in two], [r.value for r in one])


class TestPublishedRecall:
    def test_pools_are_batches_of_64_consecutive_spots(self):
        rng = np.random.default_rng(0)
        spots = rng.normal(size=(130, 12))
        other = spots + 2 * rng.normal(size=spots.shape)
        hits = []
        for start in (0, 64, 128):
            scores = spots[start : start + 64] @ other[start : start + 64].T
            hits += [np.sum(row > row[i]) < 5 for i, row in enumerate(scores)]
        assert hescape_recall(spots, other, 5)[0] == pytest.approx(np.mean(hits))

    def test_takes_dot_products_of_embeddings_as_they_are(self):
        image, expression = np.array([[1.0, 0.0], [1.0, 0.1]]), np.array([[1.0, 0.0], [50.0, 0.0]])
        assert hescape_recall(image, expression, 1)[0] == 0.5  # the long one wins both

    def test_a_short_last_batch_is_easier_and_counts_by_its_size(self):
        flat = np.zeros((66, 2))
        assert hescape_recall(flat, flat, 1)[0] == pytest.approx((64 * 1 / 64 + 2 * 1 / 2) / 66)

    def test_four_devices_are_dealt_every_fourth_spot_and_filled_up(self):
        rng = np.random.default_rng(1)
        image, expression = rng.normal(size=(2, 9, 3))
        hits = []
        for device in range(4):
            mine = (np.arange(12) % 9)[device::4]
            scores = image[mine] @ expression[mine].T
            hits += [np.sum(row > row[i]) < 1 for i, row in enumerate(scores)]
        assert hescape_recall(image, expression, 1, n_devices=4)[0] == pytest.approx(np.mean(hits))

    def test_cannot_see_an_offset_between_slides(self):
        """So it says nothing of batch effects: it stays high where the mixed pool falls to nothing."""
        rng = np.random.default_rng(0)
        spots = rng.normal(size=(N, 8))
        own = SECTION == "b1"
        image = np.column_stack([spots, np.where(own, 9.0, 0.0)])
        expression = np.column_stack([spots, np.where(own, -9.0, 0.0)])
        mixed = score_retrieval(pairs_of(image, expression), pools=("mixed",), sizes=(None,), asking=own)
        assert values(mixed, "recall_at_5").max() < 0.05
        assert min(hescape_recall(image[own], expression[own], 5)) > 0.9
