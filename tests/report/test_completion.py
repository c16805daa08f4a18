"""The page of completers holds every number of the run, and says what differs by more than donors do."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from hescribe import keys
from hescribe.bench.completion.cells import run_completion
from hescribe.bench.completion.compare import CompletionLine, completion_lines
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.results import Results
from hescribe.bench.scores import Score
from hescribe.complete.base import complete
from hescribe.complete.knn import KNNCompleter
from hescribe.errors import DataAccessError
from hescribe.metrics.stats import DonorMean
from hescribe.report.completion import completion_figure, verdict, write_completion_report
from hescribe.report.completion_maps import completion_figure as map_figure
from hescribe.report.table import format_number
from hescribe.testing.completers import take_spots, thin_cohort

NAMES = ("mean", "section_mean", "knn:k=4")
HOSTILE = "<script>alert('donor')</script>"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Return the folder of a run of three completers on three donors, one of which has a hostile name."""
    protocol = read_completion_protocol("complete-v1").model_copy(update={"n_genes": 8, "shares": (0.3, 0.5)})
    cohort = thin_cohort()
    sections = tuple(s if s.donor != "D1" else type(s)(s.id, HOSTILE, s.table, s.image, s.card) for s in cohort)
    path = tmp_path_factory.mktemp("completion") / "R"
    run_completion(CompletionTask(type(cohort)(sections, cohort.card), protocol), NAMES, path)
    return path


@pytest.fixture(scope="module")
def page(out):
    return write_completion_report(Results(out)).read_text(encoding="utf-8")


def line_of(model, value, behind=None, *, low=None, high=None, share=0.3):
    score = Score(
        task="t", protocol="p", model=model, metric="mse", value=value, low=low, high=high, n_donors=5, n_defined=1,
        n_undefined=0, chance=None, chance_sd=None, ceiling=0.4, by_donor={}, control="", seconds=0.0,
    )  # fmt: skip
    return CompletionLine(share=share, model=model, scores={"mse": score}, behind=behind)


def test_every_error_of_the_table_is_on_the_page(page, out):
    shown = re.findall(r'data-model="([^"]*)" data-share="([^"]*)">.*?data-metric="mse">([^<]*)<', page, re.DOTALL)
    lines = completion_lines(Results(out))
    assert shown == [(x.model, str(x.share), format_number(x.mse)) for x in lines]
    assert len(shown) == 6


def test_the_page_needs_no_network_and_takes_no_script(page):
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_csv_holds_every_score_and_what_lies_above_the_best(page, out):
    assert page
    table = pd.read_csv(out / "table.csv").set_index(["task", "model", "metric"])
    assert len(table) == 2 * 3 * 3
    for line in completion_lines(Results(out)):
        row = table.loc[line.scores["mse"].task, line.model, "mse"]
        assert row["value"] == pytest.approx(line.mse, rel=1e-12)
        assert row["ceiling"] == pytest.approx(line.floor, rel=1e-12)
        if line.behind is None:
            assert np.isnan(row["above_best"])
        else:
            assert row["above_best"] == pytest.approx(line.behind.value, rel=1e-12)


def test_a_run_that_was_stopped_is_reported_as_far_as_it_came(out, tmp_path):
    path = shutil.copytree(out, tmp_path / "R")
    results = Results(path)
    first_fold = [c for c in results.plan["cells"] if c["fold"] == results.plan["cells"][0]["fold"]]
    for cell in (*first_fold[1:], next(c for c in results.plan["cells"] if c["fold"] != first_fold[0]["fold"])):
        (path / "cells" / f"{cell['key']}.parquet").unlink()
    assert "3 of 9 cells are missing" in write_completion_report(Results(path)).read_text()
    for cell in (path / "cells").iterdir():
        cell.unlink()
    with pytest.raises(DataAccessError, match="no finished cell"):
        write_completion_report(Results(path))


def test_completers_without_a_common_section_are_still_listed(out, tmp_path):
    path = shutil.copytree(out, tmp_path / "R")
    plan = json.loads((path / "run.json").read_text())
    folds = sorted({c["fold"] for c in plan["cells"]})
    for cell in plan["cells"]:
        wanted = folds[0] if cell["model"] == "mean" else folds[1]
        if cell["fold"] != wanted:
            (path / "cells" / f"{cell['key']}.parquet").unlink()
    lines = completion_lines(Results(path))
    assert [x.behind for x in lines if x.model == "mean"] == [None, None]
    assert write_completion_report(Results(path)).exists()


def test_the_verdict_says_whether_the_next_best_can_be_told_apart():
    clear = [line_of("a", 0.5), line_of("b", 0.6, DonorMean(0.1, 0.05, 0.15, {}))]
    (said,) = verdict(clear)
    assert said == (
        "With 30% hidden a is closest, with a squared error of 0.500 where counting noise alone leaves about 0.400; "
        "the next, b, is 0.100 behind (95% interval over donors 0.050 to 0.150)."
    )
    close = [line_of("a", 0.5), line_of("b", 0.6, DonorMean(0.1, -0.05, 0.15, {}))]
    assert verdict(close)[0].endswith("0.150), so that donors do not tell them apart.")
    few = [line_of("a", 0.5), line_of("b", 0.6, DonorMean(0.1, None, None, {}))]
    assert verdict(few)[0].endswith("is 0.100 behind (too few donors for an interval).")
    assert verdict([line_of("a", None)]) == ["With 30% hidden no completer has a score: nothing was left to hide."]


def test_the_figure_has_a_panel_for_each_share_and_a_dot_for_each_completer():
    lines = [line_of(m, v, low=v - 0.1, high=v + 0.1, share=s) for s in (0.1, 0.5) for m, v in (("a", 0.5), ("b", 2.0))]
    panels = completion_figure([*lines, line_of("c", None, share=0.5)]).axes
    assert [p.get_title(loc="left") for p in panels] == ["10% hidden", "50% hidden"]
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["a", "b", "c"]
    for panel in panels:
        dots = np.concatenate([c.get_offsets() for c in panel.collections])
        np.testing.assert_array_equal(dots, [[0.5, 0], [2.0, 1]])
        assert any(list(x.get_xdata()) == [0.4, 0.4] for x in panel.lines)  # the noise floor


def drawn_values(figure):
    """Return the values of each map that is drawn, grey spots as NaN."""
    return [np.ma.filled(c.get_array().astype(float), np.nan) for c in figure.axes[0].collections]


def test_a_map_shows_what_was_counted_and_what_was_filled_in():
    cohort = thin_cohort()
    section = complete(KNNCompleter().fit(cohort), cohort[0])
    measured, completed = drawn_values(map_figure(section, ["GENE1"]))
    layers = section.table[:, "GENE1"].layers
    observed = np.asarray(layers[keys.OBSERVED]).ravel()
    assert 0 < observed.sum() < len(observed)
    np.testing.assert_array_equal(np.isnan(measured), ~observed)
    np.testing.assert_array_equal(measured[observed], completed[observed])
    np.testing.assert_array_equal(completed, np.asarray(layers[keys.COMPLETED]).ravel())


def test_a_map_shows_the_spread_of_what_was_filled_in():
    cohort = thin_cohort()
    section = complete(KNNCompleter().fit(cohort), cohort[0])
    observed = section.table.layers[keys.OBSERVED]
    section.table.layers[keys.COMPLETED_SD] = np.where(observed, 0, 0.5).astype(np.float32)
    *_, sd = drawn_values(map_figure(section, ["GENE1"]))
    np.testing.assert_array_equal(np.isnan(sd), observed[:, 1])
    assert (sd[~observed[:, 1]] == 0.5).all()
    whole = take_spots(section, observed[:, 1])
    assert len(drawn_values(map_figure(whole, ["GENE1"]))) == 2  # nothing was filled in, nothing to show
