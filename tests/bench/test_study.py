import pytest

from hescribe.bench.ladder import LADDER
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import run_study
from hescribe.bench.study import Study, read_study
from hescribe.bench.task import PredictionTask
from hescribe.errors import DataAccessError, FormatError, InputError


@pytest.fixture
def study(tmp_path):
    def write(text):
        path = tmp_path / "study.toml"
        path.write_text('cohort = "C"\nout = "R"\n' + text)
        return path

    return write


def test_options_override_the_file_and_the_file_the_defaults(study):
    path = study('models = ["mean"]\nseeds = [1, 2]\n')
    assert read_study(path) == Study(cohort="C", out="R", models=("mean",), seeds=(1, 2))
    assert read_study(path, models=["ridge"], out=None).models == ("ridge",)
    assert read_study(None, cohort="C", out="R").models == LADDER


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('model = ["mean"]', "unknown key 'model'; did you mean 'models'"),
        ('models = "mean"', "models must be a list, got 'mean'"),
        ("models = []", "models is empty; leave it out for the default"),
        ("models = [1]", "models holds 1, which is no name"),
        ('models = ["mean", "mean"]', "models names 'mean' twice"),
        ('seeds = ["a"]', "seeds holds 'a', which is no seed"),
        ("seeds = [-1]", "seeds holds -1"),
        ("seeds = [1.5]", "seeds holds 1.5"),
        ("seeds = [true]", "seeds holds True"),
        ("seeds = []", "seeds is empty"),
        ("protocol = 1", "protocol must be a str, got 1"),
    ],
)
def test_a_wrong_study_is_told_by_its_key(study, text, told):
    with pytest.raises(InputError, match=told):
        read_study(study(text))


@pytest.mark.parametrize(
    ("suite", "text", "told"),
    [
        ("prediction", 'gene_encoders = ["mlp"]', "gene_encoders is read by the suite hescape alone, and this is pred"),
        ("hescape", 'completers = ["mean"]', "completers is read by the suite spared alone, and this is hescape"),
        ("completion", 'labels = "labels.csv"', "labels is read by the suite spade alone, and this is completion"),
    ],
)
def test_what_the_suite_does_not_read_is_refused(study, suite, text, told):
    with pytest.raises(InputError, match=told):
        read_study(study(f'suite = "{suite}"\n{text}'))


def test_a_study_that_is_no_toml_or_not_there_is_named(study, tmp_path):
    with pytest.raises(FormatError, match=r"study\.toml is not TOML"):
        read_study(study("models = ["))
    with pytest.raises(DataAccessError, match=r"nothing\.toml cannot be read: No such file"):
        read_study(tmp_path / "nothing.toml")


@pytest.mark.parametrize("models", [("nonsense",), ("mean",)])
def test_a_study_that_cannot_be_planned_leaves_nothing(raw_cohort, tmp_path, models):
    one_donor = raw_cohort.where(lambda s: s.donor == "D0") if models == ("mean",) else raw_cohort
    task, out = PredictionTask(one_donor, read_protocol("donor-v1")), tmp_path / "R"
    with pytest.raises(InputError):
        run_study(task, models, out, study=Study(cohort="C", out=str(out)))
    assert not out.exists()


def test_the_defaults_of_a_study_are_those_of_its_suite(study):
    of_completers = read_study(study('suite = "completion"'))
    assert of_completers.protocol == "complete-v1"
    assert {"mean", "stacked"} <= set(of_completers.models)
    named = read_study(study('suite = "completion"\nprotocol = "thinned-v1"\nmodels = ["knn:k=4"]'))
    assert (named.protocol, named.models) == ("thinned-v1", ("knn:k=4",))
    with pytest.raises(InputError, match="no suite 'complete'; known: prediction, completion"):
        read_study(study('suite = "complete"'))
