"""Registry, parameters, units, writing: the small parts that everything stands on."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from hescribe import progress, settings
from hescribe._support import import_extra, write_whole
from hescribe.data.cohort import Cohort
from hescribe.errors import (
    DataAccessError,
    HescribeError,
    InputError,
    MissingDependencyError,
    PanelError,
    SchemaError,
    UnitsError,
    UnknownNameError,
)
from hescribe.params import Params
from hescribe.predict.base import predictors
from hescribe.registry import Registry
from hescribe.units import check_agreement, check_mpp


def test_unknown_name_suggests_the_close_one():
    with pytest.raises(UnknownNameError, match="there is no predictor 'rigde'; did you mean 'ridge'"):
        predictors.get("rigde")


def test_a_file_is_a_registration(tmp_path, monkeypatch):
    package = tmp_path / "own_methods"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("")
    (package / "_shared.py").write_text("")
    (package / "serving.py").write_text("")
    (package / "mine.py").write_text("class Mine:\n    name = 'mine'\n")
    (package / "broken.py").write_text("class Other:\n    name = 'another'\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("method", "own_methods", besides=("serving",))
    assert list(registry) == ["broken", "mine"]
    assert registry.get("mine").__name__ == "Mine"
    with pytest.raises(HescribeError, match="must define exactly one class with name = 'broken'"):
        registry.get("broken")


@dataclass(kw_only=True)
class Inner(Params):
    name: ClassVar[str] = "inner"
    k: int = 3


@dataclass(kw_only=True)
class Outer(Params):
    name: ClassVar[str] = "outer"
    alpha: float = 1.0
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    flag: bool = False


def test_parameters_are_plain_and_nested():
    assert Outer().get_params() == {"alpha": 1.0, "sizes": [1, 2], "inner": {"name": "inner", "k": 3}, "flag": False}


def test_a_misspelt_parameter_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="Outer has no parameter 'alhpa'; did you mean 'alpha'"):
        Outer().with_params(alhpa=2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"alpha": "abc"}, "alpha of Outer must be a number, got 'abc'"),
        ({"alpha": float("nan")}, "alpha of Outer must be a number, got nan"),
        ({"sizes": 3}, "sizes of Outer must be a list in brackets, each item a whole number, got 3"),
        ({"sizes": (1.5,)}, "sizes of Outer must be"),
        ({"inner": Outer()}, "inner of Outer must be Inner"),
        ({"flag": "no"}, "flag of Outer must be true or false, got 'no'"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        Outer().with_params(**given)


def test_a_parameter_of_the_right_type_is_taken():
    assert Outer().with_params(alpha=2, sizes=(3,), inner=Inner(k=1)).get_params() == {
        "alpha": 2, "sizes": [3], "inner": {"name": "inner", "k": 1}, "flag": False
    }  # fmt: skip


def test_a_parameter_beyond_its_limits_is_refused():
    with pytest.raises(InputError, match="alpha of Outer must be between 2 and 3, got 1"):
        Outer().check_between("alpha", 2, 3)


def test_a_copy_with_parameters_is_not_fitted():
    fitted = Outer().set_fitted({"coef_": np.ones(2)})
    assert fitted.get_fitted().keys() == {"coef_"}
    assert fitted.with_params(alpha=2.0).get_fitted() == {}


@pytest.mark.parametrize("mpp", [0.0, -1.0, 100.0, float("nan")])
def test_an_absurd_mpp_is_refused(mpp):
    with pytest.raises(UnitsError, match="is not a pixel size in um"):
        check_mpp(mpp, "a.tif")


def test_a_missing_mpp_says_where_to_find_it():
    with pytest.raises(UnitsError, match=r"a.tif: the size of a pixel is not recorded; give it with --mpp"):
        check_mpp(None, "a.tif")


def test_contradicting_scales_are_refused_and_close_ones_are_not():
    check_agreement({"image": 0.5, "--mpp": 0.51}, "a.tif")
    with pytest.raises(UnitsError, match=r"image says 0.5, --mpp says 0.25 um per pixel"):
        check_agreement({"image": 0.5, "--mpp": 0.25}, "a.tif")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def break_off():
        with write_whole(target) as tmp:
            tmp.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(DataAccessError, match=r"a.txt cannot be written: No space left"):
        break_off()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_extra_names_how_to_install_it():
    with pytest.raises(MissingDependencyError, match=r"fast search needs no_such_module; .*hescribe\[retrieval\]"):
        import_extra("no_such_module", "retrieval", "fast search")


def test_schema_errors_list_every_problem():
    error = SchemaError("c.toml", ["a is missing", "b is no key"])
    assert "c.toml has 2 problems" in str(error)
    assert "- b is no key" in str(error)


def test_cohort_refuses_different_panels_twice_named_genes_and_ids(cohort):
    first = cohort[0]
    fewer = cohort[1].with_table(cohort[1].table[:, :5].copy())
    with pytest.raises(PanelError, match=r"s1 and s0 differ in genes \(5 and 12\)"):
        Cohort((first, fewer))
    with pytest.raises(InputError, match="two sections called 's0'"):
        Cohort((first, first))
    with pytest.raises(InputError, match="has no section"):
        Cohort(())
    twice = first.table.copy()
    twice.var_names = ["A"] * 12
    with pytest.raises(PanelError, match="names a gene twice"):
        Cohort((first.with_table(twice),))


def test_an_unknown_layer_lists_those_there_are(cohort):
    with pytest.raises(InputError, match="has no layer 'tpm'; it has counts, lognorm"):
        cohort[0].layer("tpm")


class Recorder:
    def __init__(self):
        self.events = []

    def start(self, label, total):
        self.events.append((label, total))
        return 1

    def advance(self, handle, n):
        self.events.append(n)

    def stop(self, handle):
        self.events.append("stop")


def test_progress_reaches_whoever_listens_and_ends_also_on_a_break():
    recorder = Recorder()
    with progress.listen(recorder):
        list(progress.track("ab", "work"))
        for _ in progress.track([1, 2], "broken off"):
            break
    assert recorder.events[:4] == [("work", 2), 1, 1, "stop"]
    assert recorder.events[-1] == "stop"


def test_a_number_of_workers_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("HESCRIBE_WORKERS", "many")
    with pytest.raises(InputError, match="HESCRIBE_WORKERS must be a number of cores, got 'many'"):
        settings.n_workers()
