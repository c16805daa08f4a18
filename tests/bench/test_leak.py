"""Every shortcut does what it says and nothing else, and the meter reports what it adds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from typer.testing import CliRunner

from hescribe import keys
from hescribe.bench.ladder import create_model
from hescribe.bench.leak import measure_leaks
from hescribe.bench.protocols import HONEST, list_protocols, read_protocol, read_shortcuts, take_shortcut
from hescribe.bench.results import Results
from hescribe.bench.runner import run_cell
from hescribe.bench.task import PredictionTask
from hescribe.cli.app import app
from hescribe.data.folder import write_cohort
from hescribe.errors import InputError, LeakageError, SchemaError, UnknownNameError
from hescribe.metrics.ceiling import noise_ceiling
from hescribe.metrics.gene import correlate
from hescribe.prep.targets import normaliser
from hescribe.report.leak import leak_figure, write_leaks
from hescribe.report.page import write_report

HONEST_PROTOCOL = read_protocol("donor-v1")


def task_with(cohort, *shortcuts, **fields):
    protocol = replace(HONEST_PROTOCOL, **fields)
    for name in shortcuts:
        protocol = take_shortcut(protocol, name)
    return PredictionTask(cohort, protocol)


def with_counts(section, change):
    table = section.table.copy()
    counts = table.layers[keys.COUNTS].toarray()
    change(counts)
    table.layers[keys.COUNTS] = sparse.csr_matrix(counts)
    table.obs[keys.DEPTH] = counts.sum(axis=1) + 5000.0
    return section.with_table(table)


def test_the_honest_protocol_takes_no_shortcut():
    assert not HONEST_PROTOCOL.takes_shortcut
    assert {p for p in list_protocols() if read_protocol(p).takes_shortcut} == {
        "mclstexp-2024",
        "section-v1",
        "spared-2024",
    }


@pytest.mark.parametrize("name", list(read_shortcuts()))
def test_a_shortcut_changes_one_field_and_says_that_scores_are_too_good(name):
    protocol = read_protocol(f"donor-v1+{name}")
    changed = [f for f in HONEST if getattr(protocol, f) != getattr(HONEST_PROTOCOL, f)]
    assert changed == list(read_shortcuts()[name].change)
    assert len(changed) == 1
    assert protocol.name == f"donor-v1+{name}"
    assert protocol.optimistic == read_shortcuts()[name].optimistic


def test_every_honest_choice_can_be_given_up():
    assert {f for s in read_shortcuts().values() for f in s.change} == set(HONEST)


def test_two_shortcuts_add_up():
    protocol = read_protocol("donor-v1+gene_axis+section_split")
    assert (protocol.target, protocol.split) == ("gene_axis", "section")
    assert "depth in the target; sections of the test donor" in protocol.optimistic


@pytest.mark.parametrize(
    "name", ["donor-v1+gene_axis+raw_counts", "donor-v1+pooled_pcc+pooled_pcc", "section-v1+section_split"]
)
def test_a_choice_is_given_up_once_only(name):
    """The second shortcut would undo the first, and the name say both."""
    with pytest.raises(InputError, match=r"cannot be added to protocol .*, which has (target|pool|split) = .* already"):
        read_protocol(name)


def test_a_protocol_cannot_take_a_shortcut_in_silence():
    with pytest.raises(SchemaError, match="optimistic: must say why"):
        replace(HONEST_PROTOCOL, pool="fold")


def test_an_unknown_shortcut_names_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"no shortcut 'gene_axes'; known: section_split"):
        read_protocol("donor-v1+gene_axes")


def test_only_a_split_by_section_lets_a_donor_be_on_both_sides(raw_cohort):
    task = task_with(raw_cohort, "genes_on_all")
    fold = next(task.folds())
    with pytest.raises(LeakageError, match="split by donor"):
        replace(
            fold, train=replace(fold.train, sections=fold.test[:1]), test=replace(fold.test, sections=fold.test[1:])
        )


def test_genes_on_all_sees_a_gene_that_varies_in_the_test_donor_only(raw_cohort):
    def plant(section):
        def change(counts):
            counts[:, 11] = 400 * (np.arange(len(counts)) % 2) if section.donor == "D0" else 0

        return with_counts(section, change)

    cohort = raw_cohort.map(plant)
    honest, leaky = task_with(cohort, n_genes=3), task_with(cohort, "genes_on_all", n_genes=3)
    assert "GENE11" not in next(honest.folds()).train.genes
    assert "GENE11" in next(leaky.folds()).train.genes


def test_combat_on_all_takes_the_test_donor_s_level_out_and_honest_folds_do_not(raw_cohort):
    brighter = raw_cohort.map(
        lambda s: with_counts(s, lambda c: c.__imul__(4)) if s.donor == "D0" else with_counts(s, lambda _: None)
    )

    def gap(task):
        fold = next(task.folds())
        return np.abs(fold.test.stack(keys.TARGET).mean(axis=0) - fold.train.stack(keys.TARGET).mean(axis=0)).mean()

    assert gap(task_with(brighter)) > 0.8
    assert gap(task_with(brighter, "combat_on_all")) < 0.1


def test_honest_training_targets_do_not_depend_on_the_test_donor(raw_cohort):
    changed = raw_cohort.map(lambda s: with_counts(s, lambda c: c.__imul__(1 + 3 * (s.donor == "D0"))))
    plain = raw_cohort.map(lambda s: with_counts(s, lambda _: None))

    def train(cohort, *shortcuts):
        return next(task_with(cohort, *shortcuts).folds()).train.stack(keys.TARGET)

    np.testing.assert_array_equal(train(plain), train(changed))
    assert not np.allclose(train(plain, "combat_on_all"), train(changed, "combat_on_all"), atol=1e-3)


def test_pooled_sections_get_one_score_of_all_their_spots(raw_cohort):
    task = task_with(raw_cohort, "pooled_pcc")
    fold = next(task.folds())
    rows = run_cell(task, fold, create_model("color_ridge"), 0).rows
    (mean,) = [r for r in rows if r.metric == "pearson" and not r.gene]
    model = create_model("color_ridge").fit(fold.train)
    predicted = np.concatenate([model.predict(s.blind()).mean for s in fold.test]).astype(float)
    assert (mean.section, mean.donor) == ("pooled", "D0")
    assert mean.value == pytest.approx(correlate(fold.test.stack(keys.TARGET).astype(float), predicted).mean())
    assert 0 < mean.value < mean.ceiling <= 1


@pytest.mark.parametrize(
    ("name", "unit", "smooth"), [("smoothed_labels", "lognorm", True), ("gene_axis", "gene_axis", False)]
)
def test_the_ceiling_is_that_of_the_changed_target(raw_cohort, name, unit, smooth):
    honest, leaky = (next(task_with(raw_cohort, *shortcuts).folds()) for shortcuts in ((), (name,)))
    for i, section in enumerate(leaky.test):
        normalise = normaliser(section, unit, smooth=smooth)
        depth = section.depth[section.kept]
        expected = noise_ceiling(section.layer(keys.COUNTS), depth, normalise, seed=i).pearson
        np.testing.assert_array_equal(leaky.ceilings[section.id].pearson, expected)
        assert not np.allclose(honest.ceilings[section.id].pearson, expected, atol=0.01)


def test_chosen_on_test_finds_the_penalty_that_suits_the_test_donor(raw_cohort):
    honest, leaky = task_with(raw_cohort), task_with(raw_cohort, "chosen_on_test")

    def score(task, alpha=None):
        fold = next(task.folds())
        model = create_model("color_ridge").with_params(alpha=alpha)
        rows = run_cell(task, fold, model, 0).rows
        by_gene = [r.value for r in rows if r.metric == "pearson" and r.gene]
        return np.nansum(by_gene) / len(by_gene)  # as the inner rule counts: a constant prediction is worth 0

    best = max(score(honest, 10.0 ** (k / 2)) for k in range(-2, 16))
    assert score(leaky) == pytest.approx(best)
    assert score(honest) <= best


@pytest.fixture(scope="module")
def measured(raw_cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("leak")
    write_cohort(raw_cohort, out / "cohort")
    task = PredictionTask.read(out / "cohort", HONEST_PROTOCOL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hescribe.bench.runner.N_SHUFFLES", 3
        )  # shuffles are most of the time, and their number no matter
        return out, measure_leaks(task, "color_ridge", out / "runs", cohort=out / "cohort")


def test_the_meter_starts_from_the_honest_score(measured):
    honest, *leaky = measured[1]
    assert (honest.protocol, honest.shortcut, honest.gain) == ("donor-v1", "", None)
    assert [x.shortcut for x in leaky] == list(read_shortcuts())
    for line in leaky:
        assert line.gain == pytest.approx(line.pearson - honest.pearson)
        assert line.noise == pytest.approx(2 * max(honest.null_sd, line.null_sd))
        assert line.ceiling > line.pearson
        assert line.n_donors == 3


@pytest.mark.slow
def test_depth_alone_gains_where_it_stays_in_the_target(measured):
    by_name = {x.shortcut: x for x in measured[1]}
    for name in ("gene_axis", "raw_counts"):
        assert by_name[name].depth_oracle > by_name[""].depth_oracle + 0.2


def test_each_protocol_is_a_run_that_can_be_reported(measured):
    out, lines = measured
    for line in lines:
        results = Results(out / "runs" / line.protocol)
        assert results.n_missing == 0
        assert results.study.protocol == line.protocol
    page = write_report(Results(out / "runs" / "donor-v1+gene_axis")).read_text()
    assert "Optimistic protocol." in page
    assert "counts over all spots of the section" in page
    assert "scores something else than the expression that maps show" in page


def test_table_and_figure_show_every_line(measured, tmp_path):
    lines = measured[1]
    table, picture = write_leaks(lines, "color_ridge", tmp_path)
    rows = table.read_text().splitlines()
    assert len(rows) == len(lines) + 1
    assert picture.stat().st_size > 20_000
    axes = leak_figure(lines, "color_ridge").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [x.title for x in lines]
    written = [t.get_text() for t in axes.texts]
    assert written.count("score") == written.count("change") == 1
    assert f"{lines[0].pearson:.3f}" in written


def test_controls_and_dishonest_protocols_are_refused(raw_cohort, tmp_path):
    with pytest.raises(InputError, match="is a control and always stands beside"):
        measure_leaks(task_with(raw_cohort), "depth_oracle", tmp_path, cohort=tmp_path)
    with pytest.raises(InputError, match="takes a shortcut itself; measure from an honest one"):
        measure_leaks(PredictionTask(raw_cohort, read_protocol("section-v1")), "mean", tmp_path, cohort=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_table_as_json(measured, tmp_path):
    out, lines = measured
    args = [
        "bench",
        "leak",
        "--cohort",
        str(out / "cohort"),
        "--out",
        str(tmp_path),
        "--shortcuts",
        "pooled_pcc",
        "--json",
    ]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.stderr
    table = json.loads(result.stdout)["table"]
    assert [x["shortcut"] for x in table] == ["", "pooled_pcc"]
    assert table[0]["pearson"] == pytest.approx(lines[0].pearson)
    assert (tmp_path / "leak.csv").is_file()
