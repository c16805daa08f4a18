"""HisToGene: its size, its places, and that it reads a section as one."""

import numpy as np
import pytest
import torch

from hescribe import keys
from hescribe.errors import InputError, TrainingError
from hescribe.metrics.gene import correlate
from hescribe.predict import histogene
from hescribe.predict._sequence import PixelTransformer, PlaceTables, Shape, relative_rows
from hescribe.predict.histogene import SIZES, HistogenePredictor
from hescribe.testing.cohorts import colour_cohort, planted_cohort

N_SIDE = 5
ATTENTION = "hescribe.train.attention.functional.scaled_dot_product_attention"


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


def small(**changes):
    return HistogenePredictor(size="small", **{"epochs": 1, **changes})


def moved(section, *, by=0, stretched=1):
    """Return a section elsewhere on its array, or with its places further apart."""
    table = section.table.copy()
    for name in (keys.ARRAY_COL, keys.ARRAY_ROW):
        table.obs[name] = table.obs[name] * stretched + by
    return section.with_table(table)


def test_the_paper_size_has_the_weights_that_its_layers_add_up_to():
    of_size = SIZES["paper"]
    shape = Shape(**{name: of_size[name] for name in ("n_dims", "n_layers", "n_heads", "n_feed")})
    with torch.device("meta"):
        network = PixelTransformer(of_size["px"], 785, shape, dropout=0.1, jitter=0.0)
    pixels, places, head = 3 * 112**2 * 1024 + 1024, 2 * 64 * 1024, 2 * 1024 + 1024 * 785 + 785
    layer = 4 * 1024 + 3 * 1024 * 16 * 64 + (16 * 64 + 1) * 1024 + 1025 * 2048 + 2049 * 1024
    expected = pixels + places + 4 * layer + head
    assert sum(p.numel() for p in network.parameters()) == expected == HistogenePredictor.card.n_params


def test_the_paper_size_takes_the_published_epochs_and_step_without_trying_others(cohort, monkeypatch):
    """A choice would train it for hours. The network itself is made small here."""
    paper = {**SIZES["small"], "lr": SIZES["paper"]["lr"], "epochs": (1,)}
    assert (HistogenePredictor().usual_epochs(), HistogenePredictor().recipe().lr) == ((100,), 1e-5)
    monkeypatch.setitem(histogene.SIZES, "paper", paper)
    monkeypatch.setattr("hescribe.predict._deep.choose", lambda *_, **__: pytest.fail("chosen among one"))
    assert HistogenePredictor().fit(cohort).epochs_ == 1


def test_the_small_size_chooses_its_epochs_on_held_out_donors(cohort, monkeypatch):
    monkeypatch.setitem(histogene.SIZES, "small", {**SIZES["small"], "epochs": (1, 3)})
    assert HistogenePredictor(size="small").fit(cohort).epochs_ in (1, 3)


def learns_the_section():
    """Return how well the level of new sections is predicted: every spot shows it faintly, all together exactly."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(0.2, 0.8, 36)
    signals = [np.clip(rng.normal(level, 0.25, N_SIDE**2), 0, 1) for level in levels]
    cohort = planted_cohort(signals, [np.full((N_SIDE**2, 2), s.mean()) for s in signals])
    train = cohort.where(lambda s: int(s.donor[1:]) < 28)
    fitted = small(epochs=25, jitter=0.0).fit(train)
    test = [s for s in cohort if s.donor not in train.donors]
    predicted = np.concatenate([fitted.predict(s.blind()).mean for s in test])
    return correlate(np.concatenate([s.layer(keys.TARGET) for s in test]), predicted).mean()


@pytest.mark.slow
def test_a_spot_is_told_what_the_rest_of_its_section_shows():
    assert learns_the_section() > 0.85


@pytest.mark.slow
def test_a_spot_that_sees_itself_alone_is_not(monkeypatch):
    """Without attention the same network is left with the spot: a correlation of about 0.6 at best."""
    monkeypatch.setattr(ATTENTION, lambda query, key, value, attn_mask: value)
    assert learns_the_section() < 0.7


@pytest.mark.slow
def test_a_place_says_what_no_patch_shows_and_says_it_of_a_section_elsewhere():
    """A gradient along x. The published tables have never seen the rows of a section that lies elsewhere."""
    rng = np.random.default_rng(1)
    gradient = np.tile(np.linspace(0, 1, N_SIDE), N_SIDE)[:, None] * np.ones(2)
    cohort = planted_cohort([rng.uniform(size=N_SIDE**2) for _ in range(8)], [gradient] * 8)
    train, new = cohort.where(lambda s: s.donor != "D7"), cohort[7].blind()

    def score(fitted, section):
        return correlate(gradient, fitted.predict(section).mean).mean()

    relative, published = (small(epochs=40, legacy_table=t).fit(train) for t in (False, True))
    assert score(relative, moved(new, by=30)) == pytest.approx(score(relative, new), abs=1e-4)
    assert min(score(relative, new), score(published, new)) > 0.9
    assert score(published, moved(new, by=30)) < 0.6
    shuffled = new.with_table(new.table.copy())
    shuffled.table.obs[keys.ARRAY_COL] = rng.permutation(shuffled.table.obs[keys.ARRAY_COL].to_numpy())
    assert abs(score(relative, shuffled)) < 0.6


def test_places_span_the_tables_whatever_the_size_of_the_section(cohort):
    for section in (cohort[0], moved(cohort[0], stretched=40), moved(cohort[0], by=1000)):
        rows = relative_rows(section)
        assert (rows.min(), rows.max()) == (0, 63)
    lone = cohort[0].with_table(cohort[0].table[:1].copy())
    assert relative_rows(lone).tolist() == [[31.5, 31.5]]


def test_a_whole_place_is_one_row_of_each_table():
    tables = PlaceTables(3)
    expected = tables.x.weight[[0, 63]] + tables.y.weight[[63, 7]]
    torch.testing.assert_close(tables(torch.tensor([[0.0, 63.0], [63.0, 7.0]])), expected)


def test_a_section_wider_than_the_table_fits_by_default_and_is_refused_by_the_published_way(cohort):
    wide = moved(cohort[0], stretched=11)
    assert np.isfinite(small().fit(cohort).predict(wide.blind()).mean).all()
    with pytest.raises(InputError, match=r"spot 6x0 of section s0 is at column 66 and row 0 .* leave it off"):
        small(legacy_table=True).fit(cohort).predict(wide.blind())


def test_without_an_array_places_are_those_on_the_tissue(cohort):
    def bare(section):
        table = section.table.copy()
        table.obs = table.obs.drop(columns=[keys.ARRAY_ROW, keys.ARRAY_COL])
        return section.with_table(table)

    np.testing.assert_allclose(relative_rows(bare(cohort[0])), relative_rows(cohort[0]), atol=1e-4)
    with pytest.raises(InputError, match="section s0 has no places on an array"):
        small(legacy_table=True).fit(cohort.map(bare))


def test_a_spot_without_a_place_is_named(cohort):
    lost = moved(cohort[0])
    lost.table.obs[keys.ARRAY_ROW] = np.where(np.arange(49) == 9, np.nan, lost.table.obs[keys.ARRAY_ROW])
    with pytest.raises(InputError, match="spot 2x1 of section s0 has no finite place"):
        small().fit(cohort).predict(lost.blind())


@pytest.mark.parametrize("n_spots", [1, 2, 3])
def test_the_smallest_sections_are_predicted_and_learned_from(cohort, n_spots):
    few = cohort.map(lambda s: s.with_table(s.table[:n_spots].copy()))
    mean = small().fit(few).predict(few[0].blind()).mean
    assert mean.shape == (n_spots, 12)
    assert np.isfinite(mean).all()


def test_a_gene_that_is_constant_in_train_stays_at_its_level(cohort):
    def level(section):
        table = section.table.copy()
        table.layers[keys.TARGET][:, 3] = 2.5
        return section.with_table(table)

    mean = small(epochs=3).fit(cohort.map(level)).predict(cohort[0].blind()).mean
    np.testing.assert_allclose(mean[:, 3], 2.5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "large"}, "size of HistogenePredictor must be 'paper' or 'small'"),
        ({"fov_um": 0.0}, "fov_um of HistogenePredictor must be at least 1"),
        ({"dropout": 1.0}, "dropout of HistogenePredictor must be between 0 and 0.99"),
        ({"epochs": 0}, "epochs of HistogenePredictor must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=said):
        HistogenePredictor(**{"size": "small", **changes}).fit(cohort)


def test_a_step_too_large_says_where_and_what_to_do(cohort):
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+; lower lr"):
        small(lr=1e30, epochs=3).fit(cohort)
