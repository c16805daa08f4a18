"""The bank that retrieval predictors answer from."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.errors import InputError
from hescribe.predict._bank import Bank, Retrieval, name_heaviest
from hescribe.predict.knn import KNNPredictor


@pytest.fixture
def bank(cohort):
    masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 2 == 0))
    vectors = np.random.default_rng(0).normal(size=(sum(s.kept.sum() for s in masked), 4))
    return Bank.of(masked, vectors)


def test_explains_a_spot_by_itself_if_it_is_in_the_bank(cohort, bank):
    row = 30  # the 6th kept spot of the second section: 25 of 49 are kept
    first = bank.explain(bank.vectors[[row]], ["asked"], 3, Retrieval()).iloc[0]
    assert (first["spot"], first["rank"], first["section"], first["donor"]) == ("asked", 1, "s1", "D0")
    assert first["train_spot"] == cohort[1].table.obs_names[10]
    assert first["distance"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("how", [Retrieval(), Retrieval(metric="l2", weighting="inverse_square")])
def test_an_explanation_adds_up_to_the_prediction(bank, how):
    query = np.random.default_rng(1).normal(size=(3, 4))
    table = bank.explain(query, ["a", "b", "c"], 5, how)
    of = {f"{s}/{n}": v for s, n, v in zip(_sections(bank), _spots(bank), bank.values, strict=True)}
    expected = next(bank.means(query, (5,), how))
    for spot, mean in zip("abc", expected, strict=True):
        lines = table[table["spot"] == spot]
        carried = np.array([of[f"{s}/{t}"] for s, t in zip(lines["section"], lines["train_spot"], strict=True)])
        np.testing.assert_allclose(lines["weight"].to_numpy() @ carried, mean)


def _sections(bank):
    return np.array(["s0", "s1", "s2", "s3", "s4", "s5"])[bank.section]


def _spots(bank):
    return [bytes(name).rstrip(b"\0").decode() for name in bank.spot_names]


def test_leaves_out_a_donor_and_says_when_nothing_is_left(cohort):
    two = cohort.where(lambda s: s.donor != "D2")
    bank = Bank.of(two, np.ones((two.stack(keys.TARGET).shape[0], 2)))
    rest = bank.without_donor("D0")
    assert set(rest.explain(np.ones((1, 2)), ["a"], 9, Retrieval())["donor"]) == {"D1"}
    with pytest.raises(InputError, match="without donor D1 the bank is empty"):
        rest.without_donor("D1")


def test_refuses_a_cohort_without_kept_spots(cohort):
    empty = cohort.map(lambda s: s.with_kept(np.zeros(s.n_spots, dtype=bool)))
    with pytest.raises(InputError, match="no spot of the train cohort is kept"):
        Bank.of(empty, np.empty((0, 3)))


def test_refuses_vectors_of_other_spots(cohort):
    with pytest.raises(InputError, match="given 10 vectors for 294 kept spots"):
        Bank.of(cohort, np.ones((10, 3)))


def test_a_query_without_direction_gets_the_mean_of_the_bank(bank):
    means = next(bank.means(np.array([[0.0] * 4, [1.0] * 4]), (5,), Retrieval()))
    np.testing.assert_allclose(means[0], bank.values.mean(axis=0), rtol=1e-6)
    assert not np.allclose(means[1], means[0])


def test_a_spot_without_direction_is_nobodys_neighbour(bank):
    bank.vectors[:50] = 0.0
    found = bank.explain(np.ones((1, 4)), ["a"], 1000, Retrieval())
    assert len(found) == len(bank.vectors) - 50
    assert not set(found["section"]) & {"s0", "s1"}  # the first 50 rows
    bank.vectors[:] = 0.0
    np.testing.assert_allclose(
        next(bank.means(np.ones((1, 4)), (5,), Retrieval()))[0], bank.values.mean(axis=0), rtol=1e-6
    )


def test_knn_explains_its_predictions_after_a_round_trip_through_a_model_folder(cohort):
    fitted = KNNPredictor(encoder="color", k=4).fit(cohort)
    restored = KNNPredictor(encoder="color", k=4).set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
    section = cohort[3].blind()
    table = restored.explain(section)
    assert list(table["spot"].unique()) == list(section.table.obs_names)
    own = table[table["rank"] == 1]
    assert (own["train_spot"] == own["spot"]).all()  # a training spot looks most like itself
    assert set(own["section"]) == {"s3"}


def test_refuses_the_bank_of_an_older_model(cohort):
    fitted = KNNPredictor(encoder="color", k=4).fit(cohort)
    fitted.bank_ = np.ones((294, 6))
    with pytest.raises(InputError, match="another version of the program; fit the model again"):
        fitted.predict(cohort[0].blind())


def test_takes_the_level_of_each_section_out_and_the_common_one_in(cohort):
    """Levels 0, 1 and 5; two sections are of one donor, so that the common level is (0.5 + 5) / 2."""

    def level(section):
        table = section.table.copy()
        table.layers[keys.TARGET] = np.array([-1.0, 1.0])[np.arange(49) % 2, None] + np.zeros((49, 12))
        table.layers[keys.TARGET] += {"s0": 0.0, "s1": 1.0, "s2": 5.0}[section.id]
        return section.with_table(table).with_kept(np.arange(49) < 48)

    three = cohort.where(lambda s: s.id in {"s0", "s1", "s2"}).map(level)
    bank = Bank.of(three, np.ones((3 * 48, 2))).section_centred()
    np.testing.assert_allclose(bank.values[:, 0].reshape(3, 48), np.tile([1.75, 3.75], (3, 24)))


def test_weights_may_be_taken_of_another_distance_than_the_search(bank):
    """The nearest by cosine is far by L1: lengths count for the weights, and not for the order."""
    vectors, values = np.array([[4.0, 0.0], [0.6, 0.8]]), np.array([[0.0], [1.0]])
    two = Bank(vectors, values, bank.section[:2], bank.spot_names[:2], bank.section_names, bank.donor_names)
    how = Retrieval(weighting="inverse_square", weigh_by="l1")
    query = np.array([[1.0, 0.0]])  # L1 distances 3 and 1.2
    expected = (1 / 1.2**2) / (1 / 1.2**2 + 1 / 3**2)
    assert next(two.means(query, (2,), how))[0, 0] == pytest.approx(expected)
    assert two.explain(query, ["a"], 2, how)["distance"].to_list() == pytest.approx([3.0, 1.2])


def test_the_heaviest_spots_are_named_with_their_sign_and_share(cohort, bank, monkeypatch):
    monkeypatch.setattr("hescribe.predict._bank.N_NAMED", 2)
    heavy = np.zeros((1, len(bank.vectors)))
    heavy[0, [3, 30, 31]] = 1.0, -6.0, 3.0
    table = name_heaviest(bank, bank.vectors[[30]], ["asked"], lambda _: heavy)
    assert table["weight"].tolist() == [-6.0, 3.0]
    assert table["share"].tolist() == pytest.approx([0.6, 0.3])
    assert table["train_spot"].tolist() == [cohort[1].table.obs_names[i] for i in (10, 12)]
    assert table["rank"].tolist() == [1, 2]
    assert table["distance"].iloc[0] == 0


def test_naming_does_not_depend_on_how_many_are_asked_at_once(bank, monkeypatch):
    query, w = bank.vectors[:7], np.random.default_rng(2).normal(size=(4, len(bank.vectors)))
    whole = name_heaviest(bank, query, list("abcdefg"), lambda part: part @ w)
    monkeypatch.setattr("hescribe.predict._bank.CHUNK", 2)
    parts = name_heaviest(bank, query, list("abcdefg"), lambda part: part @ w)
    assert parts["train_spot"].tolist() == whole["train_spot"].tolist()
    np.testing.assert_allclose(parts["weight"], whole["weight"])


def test_spots_that_weigh_nothing_have_no_share(bank):
    table = name_heaviest(bank, bank.vectors[:1], ["a"], lambda part: np.zeros((len(part), len(bank.vectors))))
    assert set(table["share"]) == {0.0}
