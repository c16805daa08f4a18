"""What SpaCKLE is shown and asked in training, ours and as published."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.complete.spackle_sections import section_of  # noqa: E402

from hescribe.complete._spackle_lessons import Lessons, Spots, log_values, section_levels  # noqa: E402
from hescribe.complete._spackle_published import PublishedLessons  # noqa: E402
from hescribe.complete.base import View, to_values  # noqa: E402


def test_published_batches_hide_measured_values_and_leave_medians_visible(raw_cohort):
    lessons = PublishedLessons.of(raw_cohort, n_tokens=19)
    share = np.mean([View.of(s).observed.mean(axis=0) for s in raw_cohort], axis=0)
    np.testing.assert_allclose(lessons.share, np.minimum(1, 0.3 / share), rtol=1e-5)
    rows = torch.arange(60)
    shown, values = lessons.draw(rows, torch.Generator().manual_seed(0))
    assert shown.shape == (60, 19, 12)
    assert (values > 0).all()  # the median filter leaves no gap here
    hidden = shown == 0
    assert set(values[~hidden].tolist()) == set(shown[~hidden].tolist())
    assert abs(hidden.float().mean() - 0.3) < 0.02


def test_published_neighbours_come_from_any_section(raw_cohort):
    """All sections of the toy lie in one frame: the spots at the same place are a spot's nearest."""
    near = PublishedLessons.of(raw_cohort, n_tokens=19).near.numpy()
    of = np.repeat(np.arange(6), 49)
    assert near.shape == (294, 19)
    assert (near[:, 0] == np.arange(294)).all()
    assert (np.diff(near[:, 1:], axis=1) > 0).all()
    assert (of[near[0]] != of[0]).sum() >= 5


def test_fewer_tokens_leave_the_loss_unbiased(raw_cohort):
    lessons = PublishedLessons.of(raw_cohort, n_tokens=1)
    drawn = [lessons.draw(torch.arange(5), torch.Generator().manual_seed(s))[1] for s in range(300)]
    chosen = {tuple(v[:, 0, 0].tolist()) for v in drawn}
    assert len(chosen) > 15  # every one of the 19 places is drawn, the centre like the others


def lessons_of(section, *, missing="measured", depth_seen="visible"):
    rule = {"hide": (0.2, 0.6), "missing": missing, "depth_seen": depth_seen}
    levels = section_levels(section, np.zeros(len(section.genes)), np.random.default_rng(0), **rule)
    return Lessons(
        spots=Spots.of([View.of(section)], n_neighbours=4, radius=1.0, encoder=None),
        section=torch.zeros(section.n_spots, dtype=torch.long),
        levels=torch.from_numpy(np.zeros_like(levels, dtype=np.float32)[None]),  # values as they are
        spread=torch.ones(len(section.genes)),
        **rule,
    )


def test_neighbours_stay_in_their_section_and_within_the_radius():
    views = [View.of(section_of(np.ones((9, 2)), name)) for name in "ab"]
    near = Spots.of(views, n_neighbours=4, radius=1.0, encoder=None).near.numpy()
    assert near[4].tolist()[0] == 4
    assert set(near[4]) == {4, 1, 3, 5, 7}
    assert near[0].tolist()[3:] == [-1, -1]  # a corner touches two spots
    assert set(near[9:].ravel()) == {-1, *range(9, 18)}


@pytest.mark.parametrize("depth_seen", ["visible", "full"])
def test_the_depth_shown_in_training_follows_the_rule(depth_seen):
    """Every count is 10 of 50, 10 of them outside the panel: the depth shown is known from how many are visible."""
    section = section_of(np.full((64, 4), 10.0), depth=50)
    lessons = lessons_of(section, depth_seen=depth_seen)
    values, visible, _, _, absent, answer, asked = lessons.draw(torch.arange(64), torch.Generator().manual_seed(0))
    depth = 10.0 + 10.0 * visible.sum(dim=-1) if depth_seen == "visible" else torch.full(visible.shape[:2], 50.0)
    expected = torch.log2(1 + 1e6 * 10 / depth)[..., None].expand_as(values)
    torch.testing.assert_close(values[visible], expected[visible])
    assert (values[~visible] == 0).all()
    torch.testing.assert_close(answer[asked], expected[:, 0][asked])
    assert torch.equal(asked, ~visible[:, 0])
    assert 0.3 < asked.float().mean() < 0.5
    assert absent.sum() == 4 * 8  # the sides of the square


def test_a_thinned_count_is_split_and_asked_for_where_nothing_is_left():
    """With one count a spot and gene, what is not shown was set aside, and its depth is that of what was set aside."""
    section = section_of(np.ones((64, 4)), depth=4)
    values, visible, _, _, _, answer, asked = lessons_of(section, missing="any").draw(
        torch.arange(64), torch.Generator().manual_seed(0)
    )
    shown = visible.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(values[visible], torch.log2(1 + 1e6 / shown.clamp(min=1)).expand_as(values)[visible])
    torch.testing.assert_close(answer[asked], torch.log2(1 + 1e6 / (4 - shown[:, 0])).expand_as(answer)[asked])
    assert torch.equal(asked, ~visible[:, 0])


def test_zeros_that_were_measured_again_are_asked_for_when_counts_are_thinned():
    section = section_of(np.tile([0.0, 40.0], (64, 1)), depth=40)
    draw = lessons_of(section, missing="any").draw(torch.arange(64), torch.Generator().manual_seed(0))
    assert draw[-1][:, 0].all()
    assert (draw[-2][:, 0] == 0).all()


@pytest.mark.parametrize("missing", ["measured", "any"])
def test_levels_are_the_section_means_at_each_share(missing):
    section = section_of(np.tile([[80.0, 0.0]], (400, 1)), depth=160)
    otherwise = np.array([1.0, 3.0])
    rule = {"hide": (0.2, 0.6), "missing": missing, "depth_seen": "full"}
    levels = section_levels(section, otherwise, np.random.default_rng(0), **rule)
    np.testing.assert_allclose(levels[:, 0], np.log2(1 + 1e6 * 80 / 160), rtol=2e-3)
    np.testing.assert_array_equal(levels[:, 1], 3.0)  # never visible: what is given instead


def test_values_are_those_of_the_contract():
    counts, depth = np.array([[3.0, 0.0], [1.0, 2.0]]), np.array([10.0, 0.0])
    found = log_values(torch.from_numpy(counts), torch.from_numpy(depth))
    np.testing.assert_allclose(found, to_values(counts, depth), rtol=1e-6)
