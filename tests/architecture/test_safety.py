"""Nothing that can run code is read from a file or written to one."""

import ast
from pathlib import Path

import pytest

import hescribe

SOURCE = Path(hescribe.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
STAND_INS = SOURCE / "testing" / "gene_encoders.py"
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "read_pickle", "to_pickle", "load_learner", "full_load", "unsafe_load"}
NEEDS = {("torch", "load"): "weights_only"}  # must be there and True
REFUSED = {("torch", "save"), ("yaml", "load"), ("os", "system"), ("os", "popen")}


def find_unsafe(source):
    """Return what can run code, one sentence a place."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"line {node.lineno} imports {n}" for n in names if n.partition(".")[0] in PICKLERS]
        if isinstance(node, ast.Call):
            found += [f"line {node.lineno} {problem}" for problem in _problems(node)]
    return found


def _problems(call):
    given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    if isinstance(call.func, ast.Attribute):
        owner, name = ast.unparse(call.func.value), call.func.attr
    else:
        owner, name = "", getattr(call.func, "id", "")
    if name in CALLS and not (name in {"eval", "exec"} and owner):  # network.eval() is another thing
        yield f"calls {name}"
    if (owner, name) in REFUSED:
        yield f"calls {owner}.{name}"
    if (owner, name) in NEEDS and given.get(NEEDS[owner, name]) is not True:
        yield f"calls {owner}.{name} without {NEEDS[owner, name]}=True"
    if given.get("allow_pickle"):
        yield "allows pickles"
    elif owner in {"np", "numpy"} and name in {"load", "save"} and given.get("allow_pickle") is not False:
        yield f"calls np.{name} without allow_pickle=False"
    if given.get("shell"):
        yield "starts a shell"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_of_the_package_can_run_what_it_reads(path):
    found = find_unsafe(path.read_text())
    if path == STAND_INS:  # writes, for tests, what others publish as torch checkpoints; we read them without pickle
        found = [f for f in found if "torch.save" not in f]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import cloudpickle as safe", "torch.save(x, path)",
        "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "np.load(path)",
        "numpy.save(path, x)", "pd.read_pickle(path)", "yaml.load(text)", "eval(text)", "run(words, shell=True)",
    ],
)  # fmt: skip
def test_each_way_is_found(source):
    assert len(find_unsafe(source)) == 1


def test_what_is_safe_is_left_alone():
    safe = "torch.load(p, weights_only=True); network.eval(); np.load(p, allow_pickle=False); json.load(file)"
    assert find_unsafe(safe) == []
