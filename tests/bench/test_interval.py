"""Intervals hold what they promise on donors that were not there, and say what they rest on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.fitting import fit_model, predict_section, predict_table
from hescribe.bench.interval import LEVELS, fit_interval, to_points
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.errors import FormatError, InputError
from hescribe.metrics.calibration import interval_coverage
from hescribe.testing.cohorts import colour_section, raw_colour_cohort

PROTOCOL = read_protocol("donor-v1")


def draw_donors(n, *, seed=0, shift=1.0, n_spots=300):
    """Return residuals of donors that differ from each other by a shift, and from spot to spot."""
    rng = np.random.default_rng(seed)
    return {f"D{i}": rng.normal(shift * rng.normal(), 1.0, (n_spots, 3)) for i in range(n)}


@pytest.fixture(scope="module")
def model():
    return fit_model(create_model("color_ridge"), raw_colour_cohort(6, 1), PROTOCOL)


def test_the_ends_are_quantiles_of_the_residuals_by_hand():
    """Of 0 to 999 less 500, 5 % lie below -450 and 5 % above 449."""
    found = fit_interval({"A": np.arange(-500.0, 500.0)[:, None]}, level=0.9)
    assert found.below[0] == pytest.approx(-450, abs=5)
    assert found.above[0] == pytest.approx(449, abs=5)


def test_every_donor_weighs_the_same_whatever_its_spots():
    few = {"A": np.zeros((20, 1)), "B": np.full((20, 1), 4.0), "C": np.full((20, 1), -4.0)}
    many = {**few, "A": np.zeros((20_000, 1))}
    for level in (0.5, 0.9):
        a, b = fit_interval(few, level=level), fit_interval(many, level=level)
        assert (a.below, a.above) == (b.below, b.above)
    assert fit_interval(many, level=0.9).above[0] == 4.0  # the pooled spots would say 0


def test_new_donors_are_covered_as_promised_though_donors_differ():
    """Twelve donors with shifts as large as the noise; a fresh set of donors, 100 times."""
    shares = []
    for seed in range(100):
        found = fit_interval(draw_donors(12, seed=seed))
        for y in draw_donors(4, seed=10_000 + seed).values():
            lower, upper = (np.tile(end, (len(y), 1)) for end in (found.below, found.above))
            shares.append(interval_coverage(y, lower, upper).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.03)


def test_the_coverage_it_reports_comes_from_donors_left_out():
    """Donors who agree but for one: the odd one is not covered by what the others give."""
    residuals = {f"D{i}": np.random.default_rng(i).normal(size=(200, 2)) for i in range(6)}
    residuals["odd"] = residuals["D0"] + 50.0
    info = fit_interval(residuals).info
    assert info.by_donor["odd"] == 0.0
    assert min(v for k, v in info.by_donor.items() if k != "odd") > 0.85
    assert info.coverage == pytest.approx(np.mean(list(info.by_donor.values())))


def test_the_reliability_curve_rises_with_the_level():
    info = fit_interval(draw_donors(8)).info
    levels, shares = zip(*info.curve, strict=True)
    assert levels == LEVELS
    assert list(shares) == sorted(shares)
    assert dict(info.curve)[0.9] == pytest.approx(info.coverage)


@pytest.mark.parametrize(("n", "rests_on"), [(1, "spots"), (4, "spots"), (5, "donors"), (9, "donors")])
def test_under_five_donors_it_says_that_it_rests_on_spots(n, rests_on):
    info = fit_interval(draw_donors(n)).info
    assert info.rests_on == rests_on
    assert ("not on donors" in info.sentence) == (rests_on == "spots")
    assert info.guaranteed == pytest.approx(0.9 * n / (n + 1) if rests_on == "donors" else 0.0)


def test_one_donor_has_no_coverage_to_report():
    info = fit_interval(draw_donors(1)).info
    assert (info.coverage, info.by_donor, info.curve) == (None, {}, ())
    assert "the spots of one donor" in info.sentence


@pytest.mark.parametrize(
    ("residuals", "level", "message"),
    [
        ({}, 0.9, "at least one donor"),
        ({"A": np.zeros((0, 2))}, 0.9, r"donor 'A' have shape \(0, 2\)"),
        ({"A": np.array([[np.nan]])}, 0.9, "must be finite"),
        ({"A": np.zeros((5, 1))}, 90, "between 0 and 1"),
    ],
)
def test_residuals_that_give_no_interval_are_refused(residuals, level, message):
    with pytest.raises(InputError, match=message):
        fit_interval(residuals, level=level)


def test_points_keep_the_spread_of_any_number_of_spots():
    values = np.random.default_rng(0).normal(size=(5000, 2))
    points = to_points(values)
    assert points.shape == (200, 2)
    np.testing.assert_allclose(
        np.quantile(points, [0.05, 0.95], axis=0), np.quantile(values, [0.05, 0.95], axis=0), atol=0.03
    )


def test_a_fitted_model_predicts_intervals_that_hold_most_of_a_new_donor(model):
    section = colour_section(77, "new")
    table = predict_table(model, section)
    measured = np.log1p(1e4 * section.table.layers[keys.COUNTS].toarray() / section.depth[:, None])
    lower, upper = table.layers[keys.LOWER], table.layers[keys.UPPER]
    assert 0.8 < interval_coverage(measured, lower, upper).mean() < 1.0
    assert lower.min() >= 0
    assert (lower <= table.layers[keys.PREDICTED]).all()
    assert (table.layers[keys.PREDICTED] <= upper).all()
    assert table.uns["hescribe"]["interval"].endswith("this rests on 6 held-out donors")


@pytest.mark.slow
def test_the_residuals_are_those_of_donors_that_the_fit_had_not_seen(model):
    """One nearest neighbour is exact on what it has seen: seen donors would leave no residual at all."""
    info = model.info.interval
    assert sorted(info.by_donor) == list(model.info.donors)
    assert info.n_donors == 6
    nearest = fit_model(create_model("knn:encoder=color:k=1"), raw_colour_cohort(3, 1), PROTOCOL)
    assert (nearest.interval.above > 0.1).all()


def test_intervals_survive_the_disk(model, tmp_path):
    write_model(tmp_path / "m", model)
    restored, section = read_model(tmp_path / "m"), colour_section(77, "new")
    assert restored.info == model.info
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(
            getattr(predict_section(restored, section), name), getattr(predict_section(model, section), name)
        )


def test_a_single_donor_gets_intervals_from_blocks_of_its_sections():
    one = raw_colour_cohort(1, 2)
    model = fit_model(create_model("color_ridge"), one, PROTOCOL)
    assert model.info.interval.rests_on == "spots"
    assert model.info.interval.n_donors == 1
    table = predict_table(model, one[0])
    measured = np.log1p(1e4 * one[0].table.layers[keys.COUNTS].toarray() / one[0].depth[:, None])
    assert 0.8 < interval_coverage(measured, table.layers[keys.LOWER], table.layers[keys.UPPER]).mean() < 1.0


def test_sections_held_out_beside_others_of_their_donor_are_no_donors():
    model = fit_model(create_model("color_ridge"), raw_colour_cohort(3, 2), read_protocol("section-v1"))
    assert model.info.interval.rests_on == "spots"


def test_a_folder_of_an_older_format_predicts_without_intervals(model, tmp_path):
    write_model(tmp_path / "m", replace(model, info=replace(model.info, interval=None), interval=None))
    path = tmp_path / "m/model.json"
    content = json.loads(path.read_text())
    del content["interval"]
    content["schema_version"] = 3
    path.write_text(json.dumps(content))
    table = predict_table(read_model(tmp_path / "m"), colour_section(77, "new"))
    assert keys.LOWER not in table.layers
    assert "interval" not in table.uns["hescribe"]


def test_a_folder_whose_intervals_are_not_those_of_its_genes_is_refused(model, tmp_path):
    short = replace(model.interval, below=model.interval.below[:-1])
    write_model(tmp_path / "short", replace(model, interval=short))
    with pytest.raises(FormatError, match="does not hold both ends of an interval for 12 genes"):
        read_model(tmp_path / "short")
    write_model(tmp_path / "none", replace(model, interval=None))
    with pytest.raises(FormatError, match="does not hold both ends"):
        read_model(tmp_path / "none")
    swapped = replace(model.interval, below=model.interval.above, above=model.interval.below)
    write_model(tmp_path / "swapped", replace(model, interval=swapped))
    with pytest.raises(FormatError, match="does not hold its own prediction"):
        read_model(tmp_path / "swapped")
