"""The suite hescape: what is crossed, what is asked, planted aligners, runs, and what was published."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hescribe import keys
from hescribe.bench.hescape.cells import create_entrant, name_entrants, plan_retrieval, score_cell
from hescribe.bench.hescape.protocol import read_retrieval_protocol
from hescribe.bench.hescape.published import published_recall, read_published
from hescribe.bench.hescape.suite import HescapeResults, run_hescape, split_cohorts
from hescribe.bench.hescape.task import RetrievalTask, questions
from hescribe.bench.ladder import create_model
from hescribe.bench.results import suite_of
from hescribe.bench.runner import run_cell
from hescribe.bench.runs import Cell
from hescribe.bench.shifted import shift_curve
from hescribe.bench.study import HESCAPE_CONTROLS, read_study
from hescribe.cards import MethodCard
from hescribe.cli.app import app
from hescribe.data.folder import write_cohort
from hescribe.encode.color import Color
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import DataAccessError, InputError, LeakageError, UnknownNameError
from hescribe.params import Params
from hescribe.report.hescape import retrieval_figure, verdict, write_hescape_report
from hescribe.testing.cohorts import raw_colour_cohort

SMALL = "infonce:gene_encoder.n_dims=4:epochs=2:n_dims=8"


@dataclass(kw_only=True)
class Place(Params):
    """Embeds both sides of a spot by its place on the slide: perfect inside a section, and blind to which it is."""

    name: ClassVar[str] = "place"
    card: ClassVar[MethodCard] = MethodCard(summary="knows where a spot is")

    def fit(self, train, *, val=None):
        self.seen_ = "".join(s.id for s in (val or ()))
        return self

    def embed_image(self, section):
        row, col = (section.table.obs[k].to_numpy() for k in (keys.ARRAY_ROW, keys.ARRAY_COL))
        return np.eye(49, dtype=np.float32)[7 * row + col]

    def embed_expression(self, section):
        return self.embed_image(section)


def two_donors(**changes):
    cohort = raw_colour_cohort(n_donors=2, sections_per_donor=1)
    return replace(cohort, card=replace(cohort.card, **changes))


def rows_of(protocol, cohort, model=None):
    task = RetrievalTask.of(cohort, read_retrieval_protocol(protocol))
    cells = [Cell("k", fold, "place", model or Place(), 0) for fold in task.folds()]
    return pd.DataFrame([r for cell in cells for r in map(vars_of, score_cell(task, cell).rows)])


def vars_of(row):
    return {name: getattr(row, name) for name in row.__slots__}


class TestNames:
    def test_every_aligner_meets_every_encoder_and_controls_only_those_they_read(self):
        names = name_entrants(("ridge_retriever", "density_only", "siglip:epochs=1"), ("color", "look"), ("pca", "mlp"))
        assert names == (
            "ridge_retriever:encoder=color",
            "ridge_retriever:encoder=look",
            "density_only",
            *(f"siglip:epochs=1:encoder={e}:gene_encoder={g}" for e in ("color", "look") for g in ("pca", "mlp")),
        )
        assert name_entrants(("infonce:encoder=look",), ("color",), ("pca",)) == (
            "infonce:encoder=look:gene_encoder=pca",
        )

    def test_a_mixture_reads_expression_by_the_gene_encoder_that_is_named(self):
        (name,) = name_entrants(("spade",), ("color",), ("pca:n_dims=4",))
        model = create_entrant(name)
        assert (model.encoder, model.aligner.gene_encoder) == ("color", PCAEncoder(n_dims=4))

    def test_parameters_of_a_gene_encoder_reach_it_and_not_the_aligner(self):
        (name,) = name_entrants(("infonce:n_dims=16",), ("color",), ("pca:n_dims=4",))
        assert (create_entrant(name).n_dims, create_entrant(name).gene_encoder.n_dims) == (16, 4)
        (name,) = name_entrants(("infonce",), ("color",), ("nicheformer:weights=a:b",))
        with pytest.raises(DataAccessError, match="a:b is no folder"):
            create_entrant(name)
        with pytest.raises(InputError, match=r"gives 'gene_encoder\.n_dims' twice"):
            create_entrant(name_entrants(("infonce:gene_encoder.n_dims=5",), ("color",), ("pca:n_dims=4",))[0])

    @pytest.mark.parametrize("name", ["untrained", "shuffled_pairs", "depth_only", "ridge_retriever"])
    def test_controls_read_the_encoder_they_are_given(self, name):
        (full,) = name_entrants((name,), ("color",), ("mlp",))
        model = create_entrant(full)
        inner = getattr(model, "base", getattr(model, "ridge", model))
        assert inner.encoder == "color"

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("infonse", UnknownNameError, "no aligner 'infonse'; known: bleep, infonce"),
            ("infonce:gene_encoder=pcb", UnknownNameError, "no gene encoder 'pcb'; did you mean 'pca'"),
            ("infonce:epoch=1", InputError, "no parameter 'epoch'"),
            ("depth_only:gene_encoder=mlp", InputError, "no parameter 'gene_encoder'; it has encoder"),
            ("density_only:k=3", InputError, "no parameter 'k'; it has none"),
            ("untrained:epochs=5", InputError, "no parameter 'epochs': it is what makes it one"),
            ("infonce:epochs=1:epochs=2", InputError, "gives 'epochs' twice"),
            ("robust:centre_expression=no", InputError, "must be true or false, got 'no'"),
        ],
    )
    def test_what_is_none_is_refused_in_words(self, name, error, message):
        with pytest.raises(error, match=message):
            create_entrant(name)


def test_a_model_that_is_no_aligner_is_told_with_controls_among_the_known():
    with pytest.raises(UnknownNameError, match=r"no aligner 'ridge'; known: .*ridge_retriever"):
        name_entrants(("ridge",), ("color",), ("pca",))


class TestQuestions:
    def test_four_pools_of_four_sizes_both_ways_with_and_without_depth(self):
        asked = questions(read_retrieval_protocol("donor-v1"))
        assert len(asked) == 4 * 4 * 2 * 2
        assert str(asked[0]) == "within section of 64, image to expression"
        assert str(asked[-1]) == "mixed of all, expression to image, without depth"

    def test_a_perfect_pair_is_found_within_its_section_and_tied_with_its_place_elsewhere(self):
        rows = rows_of("donor-v1", two_donors()).set_index(["task", "metric", "section"])["value"]
        assert rows["align:colour, within section of all, image to expression", "recall_at_1", "s0"] == 1
        # in the mixed pool of all 98 candidates the same place of the other section ties with the pair
        mixed = "align:colour, mixed of all, expression to image"
        assert rows[mixed, "recall_at_1", "s0"] == pytest.approx(0.5)
        assert rows[mixed, "recall_at_5", "s0"] == 1
        assert rows[mixed, "other_section", "s0"] == pytest.approx(0.5)

    def test_rows_have_the_true_size_of_the_pool_and_its_chance(self):
        rows = rows_of("donor-v1", two_donors())
        of = rows[(rows["metric"] == "recall_at_5") & rows["task"].str.contains("within section of 256")]
        assert set(of["pool_size"]) == {49}
        np.testing.assert_allclose(of["chance"], 5 / 49)
        alone = rows[rows["task"].str.contains("across sections of 64") & (rows["metric"] == "auc")]
        assert alone["value"].isna().all()  # a donor has one section here
        assert (alone["n_undefined"] == 49).all()


class TestPublishedProtocol:
    @pytest.fixture
    def breast(self):
        """Four sections under the names of train, validation and test sections of the breast panel."""
        cohort = raw_colour_cohort(n_donors=4, sections_per_donor=1)
        ids = ("TENX99", "TENX95", "NCBI785", "NCBI783")
        sections = tuple(replace(s, id=i) for s, i in zip(cohort, ids, strict=True))
        return replace(cohort, sections=sections, card=replace(cohort.card, id="hescape_human_breast_panel"))

    def test_the_published_split_is_scored_once_on_all_genes_with_its_validation_section(self, breast):
        task = RetrievalTask.of(breast, read_retrieval_protocol("hescape-2025"))
        (fold,) = task.folds()
        sides = ([s.id for s in side] for side in (fold.train, fold.test, fold.val))
        assert list(sides) == [["TENX99", "TENX95"], ["NCBI783"], ["NCBI785"]]
        assert fold.train.genes == tuple(sorted(breast.genes))
        assert "mini-batches" in task.protocol.summary
        assert task.card.optimistic

    def test_recall_is_that_of_mini_batches_on_four_devices(self, breast):
        rows = rows_of("hescape-2025", breast)
        assert set(rows["section"]) == {"NCBI783"}
        at_1 = rows[rows["metric"] == "recall_at_1"]
        assert (at_1["value"] == 1).all()
        assert len(at_1) == 2
        np.testing.assert_allclose(at_1["chance"], 1 / 13)  # 49 spots, dealt to 4 devices: batches of 13
        assert set(at_1["pool_size"]) == {13}

    def test_without_a_published_split_donors_are_held_out_in_turn(self):
        task = RetrievalTask.of(two_donors(), read_retrieval_protocol("hescape-2025"))
        assert [f.name for f in task.folds()] == ["D0", "D1"]

    def test_the_published_table_is_whole_and_doubted_where_it_should_be(self):
        table = read_published().set_index(["dataset", "gene_encoder", "image_encoder"])
        assert table.loc[("hescape_human_breast_panel", "drvi", "gigapath"), ["i2g", "g2i"]].tolist() == [0.461, 0.436]
        assert table.loc[("hescape_human_5k_panel", "nicheformer", "conch"), ["i2g", "g2i"]].tolist() == [0.237, 0.274]
        assert ("hescape_human_5k_panel", "scfoundation", "uni") not in table.index  # ran out of memory
        doubts = table["doubt"]
        assert doubts.xs("ctranspath", level=2).str.contains("never loaded").all()
        assert "test slides" in doubts["hescape_human_colon_panel", "drvi", "uni"]
        assert doubts["hescape_human_lung_healthy_panel", "mlp", "uni"] == ""
        assert published_recall("her2st").empty


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hescape")
    for name, kind in (("one", "colour"), ("breast", "hescape_human_breast_panel")):
        write_cohort(two_donors(id=kind), folder / name)
    return read_study(
        None, suite="hescape", cohort=f"{folder / 'one'},{folder / 'breast'}", out=str(folder / "R"),
        encoders=["color"], models=(SMALL, "ridge_retriever", "density_only"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(study):
    summary = run_hescape(study)
    assert (summary.n_cells, summary.n_cached) == (12, 0)
    return HescapeResults(Path(study.out))


class TestRuns:
    def test_a_second_run_does_nothing(self, study, results):
        assert suite_of(results.path) == "hescape"
        assert run_hescape(study).n_cached == 12

    def test_lines_are_in_order_and_paired_with_the_ridge(self, results):
        lines = results.cohorts["one"].lines
        assert sorted(lines, key=lambda x: -x.main.value) == lines
        by_model = {x.model.partition(":")[0]: x for x in lines}
        ridge, aligner = by_model["ridge_retriever"], by_model["infonce"]
        assert (ridge.control, aligner.control, ridge.ahead) == (True, False, None)
        assert aligner.ahead.by_donor["D0"] == pytest.approx(aligner.main.by_donor["D0"] - ridge.main.by_donor["D0"])
        assert (aligner.n_done, aligner.n_planned) == (2, 2)
        assert "2 donors are too few for an interval" in verdict(results.cohorts["one"])

    def test_the_page_holds_pools_chance_and_what_was_published_for_its_panel_alone(self, results):
        page = write_hescape_report(results).read_text()
        for text in ("Synthetic data", "ridge_retriever", "top hit of<br>another section", "Published for this panel"):
            assert text in page
        assert page.count("<h3>Published for this panel</h3>") == 1
        assert "never loaded" in page
        for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
            head, *rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
            assert {len(re.findall("<t[hd]", row)) for row in rows} == {len(re.findall("<t[hd]", head))}
        table = pd.read_csv(results.path / "table.csv")
        assert len(table[table["source"] == "published, HESCAPE 2025"]) == 2 * 20
        ours = table[table["source"] == "measured here"]
        assert ours[ours["task"].str.contains("within section")]["largest pool"].unique().tolist() == [49]

    def test_the_figure_names_every_model(self, results):
        labels = [t.get_text() for t in retrieval_figure(results.cohorts["one"]).axes[0].get_yticklabels()]
        assert len(labels) == 3
        assert "density_only" in labels

    def test_a_run_that_was_stopped_is_reported_as_far_as_it_came(self, results, tmp_path):
        shutil.copytree(results.path, tmp_path / "R")
        for cell in results.cohorts["one"].results.plan["cells"]:
            if (cell["method"], cell["fold"]) in {("infonce", "D0"), ("ridge_retriever", "D1")}:
                (tmp_path / "R" / "one" / "cells" / f"{cell['key']}.parquet").unlink()
        stopped = HescapeResults(tmp_path / "R")
        (aligner,) = [x for x in stopped.cohorts["one"].lines if not x.control]
        assert (aligner.n_done, aligner.n_planned, aligner.ahead) == (1, 2, None)
        assert [c.results.n_missing for c in stopped.cohorts.values()] == [2, 0]
        assert "whether aligning was of use" in verdict(stopped.cohorts["one"])

    def test_a_cohort_without_finished_cells_says_so(self, results, tmp_path):
        for name in ("study.toml", "one/run.json", "breast/run.json"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes((results.path / name).read_bytes())
        with pytest.raises(DataAccessError, match="holds no finished cell"):
            _ = HescapeResults(tmp_path).cohorts

    def test_command_line_prints_one_json(self, study, results, tmp_path):
        words = ["run", "--suite", "hescape", "--cohort", study.cohort, "--protocol", "hescape-2025", "--out", tmp_path]
        done = CliRunner().invoke(app, ["bench", *map(str, words), "--models", "density_only", "--json"])
        said = json.loads(done.stdout)
        assert (said["n_cells"], said["n_cached"]) == (4, 0)
        assert {r["metric"] for r in said["table"]} == {"recall_at_1", "recall_at_5", "recall_at_10"}
        assert said["table"][0].keys() >= {"task", "value", "low", "chance"}
        page = json.loads(CliRunner().invoke(app, ["bench", "report", str(tmp_path), "--json"]).stdout)
        assert page["n_missing"] == 0


@pytest.fixture(scope="module")
def shifted(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("shifted")
    own = replace(study, cohort=study.cohort.partition(",")[0], protocol="shifted-v1", out=str(out))
    run_hescape(own)
    return HescapeResults(out)


class TestShifted:
    def test_curves_are_those_of_the_aligner_scored_by_hand(self, shifted):
        found = shifted.cohorts["one"]
        curve = next(c for model, c in found.curves.items() if model.startswith("infonce"))
        (name,) = [x.model for x in found.lines if x.model.startswith("infonce")]
        rule = read_retrieval_protocol("shifted-v1")
        folds = RetrievalTask.of(two_donors(id="colour"), rule).folds()
        by_hand = shift_curve(create_entrant(name), folds, strengths=(0.0, *rule.strengths), kinds=rule.shifts)
        assert list(curve) == [0.0, 0.25, 0.5, 0.75, 1.0]
        for strength, mean in curve.items():
            assert mean.value == pytest.approx(by_hand[strength].value, abs=1e-6)

    def test_the_main_score_is_that_of_no_shift(self, shifted):
        found = shifted.cohorts["one"]
        for line in found.lines:
            assert line.main.value == pytest.approx(found.curves[line.model][0.0].value)
        assert found.lines[0].without_depth is not None

    def test_the_page_shows_the_curve_and_says_it_in_words(self, shifted, results):
        page = write_hescape_report(shifted).read_text()
        assert page.count("data:image/png") == 2
        assert "at no shift and at the strongest (1): " in page
        assert "stain, blur, depth, ambient; 1 is the strongest" in page
        assert (shifted.path / "figures" / "one_shifted.png").exists()
        assert results.cohorts["one"].curves == {}

    def test_images_alone_can_be_shifted(self):
        rows = rows_of("shifted-image-v1", two_donors())
        assert rows["task"].str.contains("shifted 0.5").any()
        own = rows[rows["metric"] == "auc"].set_index("task")["value"]
        assert own.to_numpy() == pytest.approx(1.0)  # who knows the place of a spot loses nothing


class TestStudy:
    def test_without_models_all_aligners_and_what_they_must_beat_are_run(self):
        found = read_study(None, suite="hescape", cohort="C", out="R")
        assert found.models[-2:] == HESCAPE_CONTROLS
        assert {"infonce", "siglip", "bleep"} <= set(found.models)
        assert (found.protocol, found.encoders, found.gene_encoders) == ("donor-v1", ("efficientnet_lite0",), ("pca",))

    def test_a_cohort_of_one_section_holds_nobody_out(self):
        one = raw_colour_cohort(n_donors=1, sections_per_donor=1)
        with pytest.raises(InputError, match=r"cohort colour has one donor only \(D0\); holding one out needs"):
            list(RetrievalTask.of(one, read_retrieval_protocol("donor-v1")).folds())

    def test_two_cohorts_of_one_name_are_refused(self):
        with pytest.raises(InputError, match="not all different"):
            split_cohorts("a/C,b/C")

    def test_an_unknown_protocol_is_refused(self):
        with pytest.raises(UnknownNameError, match="no protocol of retrieval 'donor-v2'; known: donor-v1"):
            read_retrieval_protocol("donor-v2")

    @pytest.mark.parametrize(("encoder", "told"), [(Color, "encoder color"), (PCAEncoder, "encoder pca")])
    def test_an_encoder_trained_on_the_cohort_is_refused_before_anything_is_fitted(self, encoder, told, monkeypatch):
        task = RetrievalTask.of(two_donors(), read_retrieval_protocol("donor-v1"))
        monkeypatch.setattr(encoder, "card", replace(encoder().card, trained_on=("colour",)))
        with pytest.raises(LeakageError, match=f"({told}) was trained on colour itself"):
            plan_retrieval(task, (f"{SMALL}:encoder=color",))
        predictor = create_model("aligned:aligner.encoder=color:aligner.gene_encoder.n_dims=4")
        with pytest.raises(LeakageError, match="was trained on colour itself"):
            run_cell(task.base, next(task.base.folds()), predictor, 0)
