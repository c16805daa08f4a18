"""The card of a model says what was measured, hides nothing, needs no network, and lets no data become markup."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from hescribe.bench.auto import choose_model, fit_chosen
from hescribe.bench.fitting import fit_model
from hescribe.bench.ladder import create_model
from hescribe.bench.protocols import read_protocol
from hescribe.report.model_card import describe_model, list_params, render_readme, write_cards, write_model_card
from hescribe.report.table import format_number

from .conftest import HOSTILE

RULE = read_protocol("donor-v1")


@pytest.fixture(scope="module")
def info(raw_cohort):
    return fit_model(create_model("color_ridge"), raw_cohort, RULE).info


@pytest.fixture(scope="module")
def page(info, tmp_path_factory):
    return write_model_card(info, tmp_path_factory.mktemp("card") / "card.html").read_text(encoding="utf-8")


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]).split())


def test_the_page_needs_no_network_and_its_figures_have_descriptions(page):
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(|<link|<iframe|<script", page)
    scores, reliability = re.findall(r"<img[^>]*>", page)
    assert 'src="data:image/png;base64,' in scores
    assert 'src="data:image/png;base64,' in reliability
    assert re.search(r'alt="Dot plot of mean Pearson[^"]*ridge 0\.\d+; [^"]*depth_oracle', scores)
    assert re.search(r'alt="90% intervals held \d+% of the values on average over 3 donors', reliability)


def test_the_page_shows_every_donor_the_ceiling_and_the_controls(page, info):
    said = text_of(page)
    scores = {(s.model, s.metric): s for s in info.held_out}
    own = scores["model", "pearson"]
    for value in (own.value, own.ceiling, own.chance, *own.by_donor.values()):
        assert format_number(value, 2) in said
    assert format_number(scores["model", "pearson_depth_partial"].value, 2) in said
    assert format_number(scores["depth_oracle", "pearson"].value, 2) in said
    assert all(donor in said for donor in info.donors)


def test_the_page_counts_the_genes_of_each_trust_class_and_names_the_best(page, info):
    trust = [g["trust"] for g in info.scores.values()]
    said = text_of(page)
    for name in set(trust):
        assert f"{trust.count(name)} {name}" in said
    best = max(
        (g for g in info.scores if info.scores[g]["trust"] == "predictable"), key=lambda g: info.scores[g]["pearson"]
    )
    rows = re.findall(r'<th scope="row">([^<]+)</th>', page)
    assert rows[0] == best
    assert [info.scores[g]["trust"] for g in rows] == sorted(
        (info.scores[g]["trust"] for g in rows), key=["predictable", "weak", "do not use"].index
    )


def test_the_page_says_where_not_to_use_the_model(info, page):
    limits = " ".join(describe_model(info).limits)
    for part in (
        "Not for diagnosis or treatment",
        "fitted on generated data",
        "3 donors are too few",
        "Trained on tissue of an unnamed organ only",
        "relative expression",
    ):
        assert part in limits
        assert part in text_of(page)
    n_bad = sum(g["trust"] != "predictable" for g in info.scores.values())
    assert f"{n_bad} of its 12 genes are not predictable" in limits


def test_depth_is_named_where_it_carries_most_of_the_score(info):
    def with_partial(share):
        changed = [replace(s, value=share * info.score) for s in info.held_out if s.metric == "pearson_depth_partial"]
        held_out = (*(s for s in info.held_out if s.metric == "pearson"), *changed)
        return " ".join(describe_model(replace(info, held_out=held_out)).limits)

    assert "goes with the total counts of a spot" in with_partial(0.4)
    assert "goes with the total counts of a spot" not in with_partial(0.6)


def test_synthetic_data_are_named_on_top(page, info, tmp_path):
    assert '<p class="banner" id="synthetic">' in page
    real = write_model_card(replace(info, synthetic=False), tmp_path / "real.html").read_text(encoding="utf-8")
    assert 'id="synthetic"' not in real
    assert "generated" not in real


def test_one_donor_is_called_untested_and_has_no_scores(raw_cohort, tmp_path):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    info = fit_model(create_model("color_ridge"), one, RULE).info
    said = text_of(write_model_card(info, tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "Not tested on another donor" in said
    assert "12 untested" in said
    assert "tested on none: how far it holds for another person is unknown" in said
    assert "held-out donor" not in said


def test_a_model_of_an_older_version_has_a_card_without_scores(info, tmp_path):
    old = replace(info, held_out=(), interval=None)
    said = text_of(write_model_card(old, tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "fitted by an older version, which kept no scores by donor" in said
    assert "predictable" in said


def test_intervals_are_told_with_what_they_rest_on(page, info):
    said = text_of(page)
    assert "rest on the spots of 3 donors, not on donors" in said
    assert f"{100 * info.interval.coverage:.0f}% of its values on average" in said


@pytest.mark.slow
def test_what_auto_picked_is_told_with_every_candidate(raw_cohort, tmp_path):
    choice = choose_model(raw_cohort, RULE, ("mean", "color_ridge"))
    info = fit_chosen(choice, raw_cohort, RULE).info
    page = write_model_card(info, tmp_path / "c.html").read_text(encoding="utf-8")
    said = text_of(page)
    assert "Picked color_ridge" in said
    assert "mean 0.000" in said
    assert "Too good:" in said
    assert "Picked color\\_ridge" in render_readme(info)


def test_names_from_data_cannot_become_markup(info, tmp_path):
    scores = {HOSTILE: dict(next(iter(info.scores.values())), trust="predictable", pearson=0.99)}
    hostile = replace(
        info, cohort=HOSTILE, licence=f"{HOSTILE}\n---\n# mine", citation="a | b `c`\n## d", scores=scores,
        organs=(HOSTILE,),
    )  # fmt: skip
    page, readme = write_cards(hostile, tmp_path)
    assert "<script>" not in page.read_text(encoding="utf-8")
    written = readme.read_text(encoding="utf-8")
    assert "<script>" not in written[written.index("\n# ") :]
    assert "\n# mine" not in written
    assert "\n## d" not in written
    assert "a \\| b \\`c\\`" in written


def test_what_the_mean_score_leaves_out_and_the_parameters_are_told_in_words(info, tmp_path):
    own, *others = info.held_out
    holed = replace(own, n_defined=60, n_undefined=12)
    params = {"views": ["color", "encoder"], "keep_spots": True, "alpha": None}
    told = text_of(
        write_model_card(replace(info, held_out=(holed, *others), params=params), tmp_path / "card.html").read_text(
            encoding="utf-8"
        )
    )
    assert "12 of 72 correlations (genes by section) are undefined" in told
    assert "mean over genes where it is defined (60 of 72)" in told
    assert "Parameters views color, encoder; keep_spots yes Protocol" in told


def test_the_readme_has_front_matter_that_a_hub_reads(info):
    card = ModelCard(render_readme(info))  # the hub's own reader
    assert card.data.library_name == "hescribe"
    assert "synthetic" in card.data.tags
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("pearsonr", round(info.score, 4))
    assert card.text.lstrip().startswith("# ridge fitted on colour")
    assert "## Where not to use it" in card.text


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ask the authors", {"license": "other", "license_name": "ask the authors"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_stated_in_words(info, licence, shown):
    facts = ModelCard(render_readme(replace(info, licence=licence))).data.to_dict()
    assert {k: v for k, v in facts.items() if k.startswith("license")} == shown


def test_a_component_among_the_parameters_is_written_for_readers(info):
    inner = {"name": "ridge", "encoder": "color", "fov_um": [112.0], "alpha": None}
    told = list_params(replace(info, params={"predictor": inner, "stain": "macenko", "keep_spots": False}))
    assert told == "predictor ridge (encoder color, fov_um 112.0); stain macenko"
