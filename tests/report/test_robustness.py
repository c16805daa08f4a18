"""The figure of robustness: its lines, its words, and what it refuses."""

from itertools import pairwise

import pytest

from hescribe.errors import InputError
from hescribe.metrics.stats import donor_mean
from hescribe.report.robustness import describe_robustness, robustness_figure


def curve(start, end, n_donors=5):
    return {
        s: donor_mean([(str(i), v + 0.01 * i) for i in range(n_donors)], n_resamples=100)
        for s, v in ((0.0, start), (0.5, (start + end) / 2), (1.0, end))
    }


def test_every_line_runs_through_its_means_in_every_panel():
    figure = robustness_figure(
        {"toy": {"robust": curve(0.8, 0.7), "infonce": curve(0.7, 0.5)}, "real": {"robust": curve(0.6, 0.6)}}
    )
    toy, real = figure.axes
    lines = [line for line in toy.lines if line.get_marker() not in {"None", None, ""}]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.82, 0.72])
    assert [line.get_ydata()[-1] for line in lines] == pytest.approx([0.72, 0.52])
    assert real.get_title(loc="left") == "real"
    assert {t.get_text() for t in toy.texts} == {"robust", "infonce", "chance"}


def test_names_that_would_lie_over_each_other_are_moved_apart():
    axes = robustness_figure({"toy": {"a": curve(0.8, 0.70), "b": curve(0.7, 0.701), "c": curve(0.7, 0.699)}}).axes[0]
    heights = sorted(t.xy[1] for t in axes.texts if t.get_text() in "abc")
    low, high = axes.get_ylim()
    assert min(b - a for a, b in pairwise(heights)) >= 0.069 * (high - low)


def test_one_aligner_has_one_colour_in_all_panels():
    figure = robustness_figure({"x": {"a": curve(0.8, 0.7), "b": curve(0.8, 0.7)}, "y": {"b": curve(0.6, 0.6)}})
    colours = [{t.get_text(): t.get_color() for t in axes.texts} for axes in figure.axes]
    assert colours[0]["b"] == colours[1]["b"] != colours[0]["a"]


def test_parameters_stand_at_the_ends_only_where_they_are_not_needed():
    """What tells two lines of one method apart is too long for the end of a line, and stands below."""
    apart = {"infonce:gene_encoder.n_dims=4:n_dims=8": curve(0.8, 0.7), "ridge_retriever": curve(0.7, 0.6)}
    figure = robustness_figure({"toy": apart})
    assert {t.get_text() for t in figure.axes[0].texts} == {"infonce", "ridge_retriever", "chance"}
    assert not figure.legends
    alike = {f"infonce:encoder={e}:gene_encoder=pca": curve(0.8, 0.7) for e in ("color", "efficientnet_lite0")}
    figure = robustness_figure({"toy": alike})
    figure.draw_without_rendering()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(alike)
    assert figure.legends[0].legend_handles[1].get_color() == figure.axes[0].lines[4].get_color()
    assert {t.get_text() for t in figure.axes[0].texts} == {"chance"}


def test_the_words_say_both_ends():
    assert describe_robustness({"robust": curve(0.8, 0.7, 1)}).endswith("the strongest (1): robust .800 and .700")


@pytest.mark.parametrize("n", [0, 6])
def test_lines_that_cannot_be_told_apart_are_refused(n):
    with pytest.raises(InputError, match=f"tells 1 to 5 aligners apart, got {n}"):
        robustness_figure({"toy": {str(i): curve(0.8, 0.7) for i in range(n)}})
