"""A plan is the arithmetic of measured costs, and says what was not measured."""

import json

import pytest
from typer.testing import CliRunner

from hescribe.cli.app import app
from hescribe.errors import FormatError, InputError, SchemaError, UnknownNameError
from hescribe.launch import costs as costs_module
from hescribe.launch.costs import Cost, measure_encoder, read_costs, resolve_encoder
from hescribe.launch.plan import Machines, Planner, bottleneck, total_hours

COSTS = (
    Cost(work="read", seconds=0.002, measured="m"),
    Cost(work="encode", of="color", seconds=0.001, measured="m"),
    Cost(work="encode", of="hub_model:uni2", device="H200", seconds=0.004, measured="m"),
    Cost(work="pair", of="infonce", seconds=1e-4, measured="m"),
    Cost(work="cell", of="ridge", seconds=2.0, measured="m"),
)


def test_cores_read_and_encode_one_after_the_other():
    stages = Planner(Machines(n_cores=4), COSTS).slides(100, 9000, "color")
    assert [s.hours for s in stages] == pytest.approx(
        [0.25, 0.125]
    )  # 900,000 tiles, two patches each, of 2 and 1 ms on 4 cores
    assert total_hours(stages) == pytest.approx(0.375)
    assert stages[1].terabytes == pytest.approx(900_000 * 2 * 11 * 4 / 1e12)
    assert bottleneck(stages) == "read patches"


def test_gpus_encode_beside_the_cores_that_read():
    stages = Planner(Machines(n_cores=4, n_gpus=2), COSTS).slides(100, 9000, "uni2")
    assert [s.hours for s in stages] == pytest.approx([0.125, 0.5])
    assert total_hours(stages) == pytest.approx(0.5)
    assert bottleneck(stages) == "encode patches"
    assert Planner(Machines(n_gpus=2, gpu="H200"), COSTS).slides(100, 9000, "uni2")[1].hours == pytest.approx(0.5)


def test_what_was_not_measured_is_said_and_not_guessed():
    stages = Planner(Machines(n_gpus=8, gpu="A100"), COSTS).slides(10, 10, "uni2")
    assert stages[1].hours is None
    assert stages[1].terabytes is not None  # known from the card
    assert stages[1].note.startswith("not measured: encode hub_model:uni2 on a A100; run hescribe plan")
    assert total_hours(stages) is None
    assert bottleneck(stages) == "not known: encode patches not measured"
    assert Planner(Machines(), COSTS).cells(5, "egn")[0].hours is None


def test_pairs_and_cells():
    [pairs] = Planner(Machines(n_cores=2), COSTS).pairs(10**7, 20, "infonce", 1024)
    assert pairs.hours == pytest.approx(10**7 * 20 * 1e-4 / 2 / 3600)
    assert pairs.terabytes == pytest.approx(0.04096)
    [cells] = Planner(Machines(n_cores=100), COSTS).cells(10**5, "ridge")
    assert (cells.hours, cells.terabytes) == (pytest.approx(10**5 * 2 / 100 / 3600), None)


def test_costs_of_a_file_go_before_those_measured_here_and_those_before_the_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("HESCRIBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(costs_module, "MEASURE_S", 0.0)
    own = tmp_path / "own.toml"
    own.write_text('[[cost]]\nwork = "encode"\nof = "color"\nseconds = 5\nmeasured = "mine"\n')
    here = measure_encoder("color")
    measure_encoder("color")
    of_color = [c for c in read_costs(own) if c.of == "color" and c.device == here.device]
    assert [c.measured for c in of_color[:1]] == ["mine"]
    assert of_color[1].of == "color"
    assert 0 < of_color[1].seconds < 1
    assert len([c for c in read_costs() if c.of == "color"]) == len(of_color) - 1  # measured twice, remembered once


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("cost = 3", FormatError, "no array of tables cost"),
        ("[[cost", FormatError, "no valid TOML"),
        ('[[cost]]\nwork = "fly"\nseconds = 1\nmeasured = "m"', SchemaError, "work"),
        ('[[cost]]\nwork = "read"\nseconds = 0\nmeasured = "m"', SchemaError, "greater than 0"),
        ('[[cost]]\nwork = "read"\nseconds = nan\nmeasured = "m"', SchemaError, "seconds"),
        ('[[cost]]\nwork = "read"\nseconds = 1\nmeasured = "m"\nspeed = 3', SchemaError, "speed"),
    ],
)
def test_a_bad_file_of_costs_is_refused(tmp_path, text, error, told):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(error, match=told):
        read_costs(tmp_path / "c.toml")


def test_a_plan_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one of slides"):
        Planner(Machines(), COSTS).slides(0, 10, "color")
    with pytest.raises(InputError, match="at least one core"):
        Machines(n_cores=0)
    with pytest.raises(UnknownNameError):
        Planner(Machines(), COSTS).slides(1, 10, "no_encoder")
    assert resolve_encoder("no_encoder") == "no_encoder"


def test_the_command_prints_hours_terabytes_and_the_bottleneck(tmp_path, monkeypatch):
    monkeypatch.setenv("HESCRIBE_CACHE", str(tmp_path))
    told = CliRunner().invoke(app, ["plan", "--slides", "10000", "--encoder", "uni2", "--gpus", "8", "--json"])
    assert told.exit_code == 0, told.output
    plan = json.loads(told.stdout)
    assert plan["hours"] is None
    assert plan["bottleneck"] == "not known: encode patches not measured"
    assert plan["terabytes"] == pytest.approx(1e8 * 1536 * 4 / 1e12)
    told = CliRunner().invoke(app, ["plan", "--slides", "100", "--cells", "1000", "--cores", "64"])
    assert told.exit_code == 0, told.output
    assert "what holds it up" in told.stderr
    assert "not measured" not in told.stdout  # the default encoder and model are
    told = CliRunner().invoke(app, ["plan"])
    assert told.exit_code == 1
    assert "--slides, --pairs or --cells" in told.stderr
