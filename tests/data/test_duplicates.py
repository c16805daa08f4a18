import numpy as np
import pytest

from hescribe.data.duplicates import Print, find_marked, find_pairs, to_mark

SPOTS = np.sort(np.random.default_rng(0).integers(0, 2**64, 300, dtype=np.uint64))
NO_SPOTS = SPOTS[:0]


def taken(name, spots=NO_SPOTS, *, cohort="mine", donor="d1", image=None):
    return Print(cohort, name, donor, image, spots)


def names(pairs):
    return [(p.one.section, p.other.section) for p in pairs]


def test_sections_that_share_spots_are_found_and_the_others_are_not():
    pairs = find_pairs([taken("a", SPOTS[:100]), taken("b", SPOTS[100:200]), taken("c", SPOTS[80:110])])
    assert names(pairs) == [("a", "c"), ("b", "c")]
    assert pairs[0].evidence == "20 spots (67% of the smaller section) have the same counts"


def test_a_few_equal_spots_are_taken_for_chance():
    assert find_pairs([taken("a", SPOTS[:100]), taken("b", SPOTS[98:198])]) == []  # 2 spots
    assert find_pairs([taken("a", SPOTS[:100]), taken("b", SPOTS[96:196])]) == []  # 4 %
    assert len(find_pairs([taken("a", SPOTS[:100]), taken("b", SPOTS[95:195])])) == 1


def test_only_pairs_across_are_told_where_two_cohorts_are_compared():
    mine = [taken("a", SPOTS[:50]), taken("b", SPOTS[:50])]
    theirs = [taken("x", SPOTS[:50], cohort="theirs"), taken("y", SPOTS[100:], cohort="theirs")]
    assert names(find_pairs(mine, theirs)) == [("a", "x"), ("b", "x")]


def test_nothing_to_compare_gives_no_pair():
    assert find_pairs([]) == []
    assert find_pairs([taken("a"), taken("b")]) == []


def test_sections_that_the_catalogue_knows_to_be_one_are_found_by_id():
    hest = [taken(s, cohort="hest_1k", donor=s) for s in ("TENX128", "TENX155", "TENX111")]
    pairs = find_pairs(hest)
    assert names(pairs) == [("TENX128", "TENX155")]
    assert pairs[0].evidence == "the catalogue says so"
    again = [taken("V10S29-134_A1", cohort="mirzazadeh_mouse_brain")]
    first = [taken("V10S29-134_A1", cohort="mirzazadeh_mouse_brain_p1")]
    assert names(find_pairs(again, first)) == [("V10S29-134_A1", "V10S29-134_A1")]


def test_one_id_means_one_section_in_the_catalogue_and_nothing_elsewhere():
    assert names(find_pairs([taken("A1", cohort="her2st")], [taken("A1", cohort="her2st")])) == [("A1", "A1")]
    assert find_pairs([taken("A1", cohort="cohort")], [taken("A1", cohort="cohort")]) == []


def test_a_mark_knows_its_section_again_under_another_name():
    image = np.random.default_rng(1).integers(0, 256, (48, 48)).astype(np.uint8)
    marks = [to_mark(taken("a", SPOTS[:200], image=image)), to_mark(taken("b", SPOTS[200:]))]
    by_spots = find_marked([taken("x", SPOTS[:120], cohort="theirs")], "mine", marks)
    assert [(p.one.section, p.other.section, p.other.cohort) for p in by_spots] == [("x", "a", "mine")]
    by_image = find_marked([taken("y", cohort="theirs", image=np.rot90(image))], "mine", marks)
    assert [(p.one.section, p.other.section) for p in by_image] == [("y", "a")]
    assert find_marked([taken("z", SPOTS[:100] ^ np.uint64(1))], "mine", marks) == []


@pytest.mark.parametrize("spots", [NO_SPOTS, SPOTS[:2]])
def test_a_section_without_spots_to_hash_is_not_recognised_by_them(spots):
    assert find_marked([taken("x", spots)], "mine", [to_mark(taken("a", spots))]) == []
