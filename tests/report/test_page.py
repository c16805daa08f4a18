"""The page holds every number of the table, escapes what comes from data, and opens offline."""

import base64
import html
import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from hescribe.bench.results import Results
from hescribe.bench.scores import score_table
from hescribe.errors import DataAccessError
from hescribe.report.page import write_report
from hescribe.report.table import format_number, model_lines, verdict
from hescribe.testing.cohorts import raw_colour_cohort

from .conftest import HOSTILE, finish_run


@pytest.fixture(scope="session")
def page(finished) -> str:
    return write_report(Results(finished)).read_text(encoding="utf-8")


def edit_plan(results: Results, change) -> Results:
    plan = json.loads((results.path / "run.json").read_text())
    change(plan)
    (results.path / "run.json").write_text(json.dumps(plan))
    return Results(results.path)


def test_the_page_needs_no_network(page):
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(|<link|<iframe", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'<img[^>]* src="([^"]*)"', page))


def test_every_picture_has_a_description_and_lies_in_figures_too(page, finished):
    pictures = re.findall(r"<img[^>]*>", page)
    assert len(pictures) == 1 + 3  # the ladder, and a section of each donor
    assert all(re.search(r'alt="[^"]{20,}"', p) for p in pictures)
    files = {f.read_bytes() for f in (finished / "figures").glob("*.png")}
    assert {base64.b64decode(re.search(r"base64,([^\"]*)", p).group(1)) for p in pictures} == files


def test_every_number_of_the_table_is_the_score_tables(page, finished):
    scores = {(s.model, s.metric): s for s in score_table(Results(finished).rows)}
    rows = re.findall(r'<tr[^>]*data-model="([^"]*)">(.*?)</tr>', page, flags=re.DOTALL)
    assert [m for m, _ in rows] == ["mean", "color_ridge", "position", "shuffled_pairs", "depth_oracle"]
    n_compared = 0
    for model, row in rows:
        shown = dict(re.findall(r'data-metric="(\w+)">([^<]*)<', row))
        main = scores[model, "pearson"]
        assert (shown.pop("n_defined"), shown.pop("n_undefined")) == (str(main.n_defined), str(main.n_undefined))
        assert shown.pop("ceiling") == format_number(main.ceiling)
        assert shown.pop("seconds") == format_number(main.seconds, 1)
        for metric, text in shown.items():
            assert text == format_number(scores[model, metric].value), (model, metric)
            n_compared += 1
    assert n_compared == 5 * 7


def test_the_csv_holds_every_score_unrounded(page, finished):
    table = pd.read_csv(finished / "table.csv").set_index(["model", "metric"])
    for score in score_table(Results(finished).rows):
        row = table.loc[(score.model, score.metric)]
        assert (pd.isna(row["value"]) and score.value is None) or row["value"] == pytest.approx(score.value, rel=1e-12)
        assert all(row[f"donor {d}"] == pytest.approx(v, rel=1e-12) for d, v in score.by_donor.items())


def test_a_gene_cannot_put_a_script_into_the_page(page):
    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False).split("alert")[0] in page
    assert page.count("<script>") == 1  # the page's own


def test_every_gene_is_there_without_javascript(page):
    table = page.split('id="gene-table"')[1].split("</table>")[0]
    assert len(re.findall(r"<tr><td>", table)) == 12
    assert "hidden" not in table


def test_few_donors_and_synthetic_data_are_said_so(page):
    assert "Values per donor; no interval: 3 donors are too few." in page
    assert 'id="synthetic"' in page
    assert 'id="optimistic"' not in page
    assert 'id="missing"' not in page


def test_real_data_get_no_synthetic_banner(without_maps):
    real = edit_plan(without_maps, lambda plan: plan["task"]["cohort"].update(synthetic=False))
    assert 'id="synthetic"' not in write_report(real).read_text()


def test_an_optimistic_protocol_is_said_so_with_its_reason(without_maps):
    given = edit_plan(without_maps, lambda plan: plan["task"].update(optimistic="replicates <of> one block"))
    page = write_report(given).read_text()
    assert 'id="optimistic"' in page
    assert "replicates &lt;of&gt; one block" in page


def test_from_five_donors_on_the_interval_is_shown(tmp_path):
    run = finish_run(raw_colour_cohort(5, 1), ("position",), tmp_path)
    shutil.rmtree(run / "predictions")
    page = write_report(Results(run)).read_text()
    score = next(s for s in score_table(Results(run).rows) if s.metric == "pearson")
    assert f"{format_number(score.low)} to {format_number(score.high)}" in page
    assert 'id="few-donors"' not in page
    assert "Shuffled pairs were not run" in page


def test_a_killed_run_is_reported_as_far_as_it_went(without_maps):
    first = next(c["key"] for c in without_maps.plan["cells"] if c["model"] == "color_ridge")
    (without_maps.path / "cells" / f"{first}.parquet").unlink()
    page = write_report(Results(without_maps.path)).read_text()
    assert "1 of 21 cells are missing" in page
    assert "2 of 3 cells" in page
    assert 'class="best" data-model="color_ridge"' not in page  # a model with all its cells goes before it


def test_a_model_of_which_nothing_is_finished_is_listed(without_maps):
    for cell in without_maps.plan["cells"]:
        if cell["model"] == "position":
            (without_maps.path / "cells" / f"{cell['key']}.parquet").unlink()
    page = write_report(Results(without_maps.path)).read_text()
    assert 'data-model="position"' in page
    assert "0 of 3 cells" in page


def test_a_run_without_a_finished_cell_is_refused(results):
    for file in (results.path / "cells").glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataAccessError, match="holds no finished cell yet"):
        write_report(Results(results.path))
    assert not (results.path / "report.html").exists()


def test_without_its_cohort_the_page_says_why_there_are_no_maps(results):
    study = results.path / "study.toml"
    study.write_text(study.read_text().replace("/cohort", "/elsewhere"))
    page = write_report(Results(results.path)).read_text()
    assert "No maps:" in page
    assert "elsewhere is no cohort" in page


def test_without_predictions_the_page_says_why_there_are_no_maps(without_maps):
    assert "no predictions of color_ridge were kept" in write_report(without_maps).read_text()


def test_a_cohort_that_changed_after_the_run_gives_no_maps(results):
    changed = edit_plan(results, lambda plan: plan.update(data_hash="0" * 64))
    assert "changed after the run" in write_report(changed).read_text()


def test_only_controls_give_a_page_without_a_winner(tmp_path):
    run = finish_run(raw_colour_cohort(2, 1), ("mean", "depth_oracle"), tmp_path)
    page = write_report(Results(run)).read_text()
    assert "No predictor has a defined score yet." in page
    assert 'id="gene-table"' not in page


def test_the_maps_are_pictures_of_the_donors_first_sections(page, finished):
    names = sorted(f.name for f in (finished / "figures").glob("map_*.png"))
    assert names == ["map_s0.png", "map_s2.png", "map_s4.png"]
    with Image.open(finished / "figures" / names[0]) as image:
        assert min(image.size) > 400


def test_a_difference_within_twice_the_null_spread_is_called_noise(results):
    lines = model_lines(results)
    ranked = [x for x in lines if x.model in ("color_ridge", "position")]
    best = max(ranked, key=lambda x: x.value)

    def close(line, gap):
        score = replace(line.main, value=best.value - gap)
        return replace(line, scores={**line.scores, "pearson": score})

    def told(gap):
        return " ".join(verdict([x if x.model != "position" else close(x, gap) for x in lines]))

    spread = best.main.chance_sd
    assert best.model == "color_ridge"
    assert "is noise" in told(1.9 * spread)
    assert "more than noise" in told(2.1 * spread)
