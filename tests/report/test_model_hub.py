"""A model is pushed to a hub as it is and pulled whole, verified and pinned, or not at all; terms are kept.

Large files go the way of Git LFS here; the hub's own storage protocol is that of its client.
"""

import hashlib
import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard, constants
from tests.report.hub_server import Hub, Repository
from typer.testing import CliRunner

from hescribe.bench.fitting import fit_model
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import FittedModel, read_model, write_model
from hescribe.bench.model_terms import find_terms, inherited_licences
from hescribe.bench.protocols import read_protocol
from hescribe.cli.app import app
from hescribe.data.web import Patience
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.report.model_card import render_readme
from hescribe.report.model_hub import pull_model, push_model

# The hub's client hands a file over in a way that its own transport wants otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TOKEN = "hf_secret_of_nobody"  # noqa: S105 - of a hub on this machine
REPO = "my-lab/colour-ridge"
UNI = {"name": "uni", "licence": "CC-BY-NC-ND-4.0", "gated": True, "paper": "none", "trained_on": []}


@pytest.fixture(autouse=True)
def _cards_without_figures(monkeypatch):
    """Drawing the figures of a card takes longer than all that is tested here; test_model_card.py looks at them."""
    monkeypatch.setattr("hescribe.report.model_card.to_png", lambda *_, **__: b"")


@pytest.fixture(scope="module")
def model(raw_cohort):
    return fit_model(create_model("color_ridge"), raw_cohort, read_protocol("donor-v1"))


@pytest.fixture
def folder(model, tmp_path):
    write_model(tmp_path / "model", model)
    return tmp_path / "model"


@pytest.fixture
def hub(monkeypatch):
    one = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", one.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HESCRIBE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield one
    one.close()


@pytest.fixture
def patience():
    return Patience(attempts=2, longest_s=8.0, timeout_s=5.0, sleep=lambda _: None)


@pytest.fixture
def published(hub, folder):
    """Return a hub that holds the model."""
    files = {name: (folder / name).read_bytes() for name in ("model.json", "weights.safetensors")}
    hub.repositories[REPO] = Repository()
    hub.repositories[REPO].add({**files, ".gitattributes": b"*.safetensors filter=lfs"})
    return hub


def other_terms(model, **facts):
    return replace(model, info=replace(model.info, synthetic=False, **facts))


def test_a_model_that_is_pushed_and_pulled_predicts_the_same(hub, folder, raw_cohort, tmp_path):
    pushed = push_model(folder, REPO)
    assert set(hub.repositories[REPO].commits[pushed.revision]) == {
        "model.json", "weights.safetensors", "README.md", "card.html",
    }  # fmt: skip
    assert hub.repositories[REPO].private
    pulled = pull_model(REPO, tmp_path / "back")
    assert pulled.revision == pushed.revision
    blind = raw_cohort[0].blind()
    one, two = (read_model(p).predictor.predict(blind).mean for p in (folder, tmp_path / "back"))
    assert (one == two).all()


def test_a_pulled_folder_says_where_it_came_from(published, folder, tmp_path):
    done = pull_model(REPO, tmp_path / "back")
    source = json.loads((tmp_path / "back" / "hub.json").read_text())
    assert (source["repository"], source["revision"]) == (REPO, done.revision)
    assert source["sha256"] == {
        n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("model.json", "weights.safetensors")
    }


def test_an_older_commit_is_pulled_by_its_name(published, tmp_path):
    first = published.repositories[REPO].main
    published.repositories[REPO].add({"model.json": b"{}"})
    assert pull_model(REPO, tmp_path / "back", revision=first).revision == first
    with pytest.raises(FormatError, match="model"):
        pull_model(REPO, tmp_path / "newest")


def test_pushing_again_is_a_new_commit_of_the_same_repository(hub, folder):
    first = push_model(folder, REPO, private=False)
    assert not hub.repositories[REPO].private
    (folder / "model.json").write_text((folder / "model.json").read_text() + " ")
    again = push_model(folder, REPO).revision
    assert again != first.revision
    assert set(hub.repositories[REPO].commits) == {first.revision, again}


def test_only_the_files_of_a_model_are_taken_whatever_others_are_called(published, tmp_path):
    strangers = {
        "../../escaped": b"x", "/tmp/escaped": b"x", "pytorch_model.bin": b"\x80\x04.", "card.html": b"<script>",  # noqa: S108
        "run.py": b"import os", "README.md": b"# not ours",
    }  # fmt: skip
    published.repositories[REPO].add(strangers)
    assert pull_model(REPO, tmp_path / "in" / "back").n_others == 4
    names = {p.name for p in (tmp_path / "in" / "back").iterdir()}
    assert names == {"model.json", "weights.safetensors", "hub.json", "README.md", "card.html"}
    assert "<script>" not in (tmp_path / "in" / "back" / "card.html").read_text(encoding="utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"in", "model"}
    assert not any("escaped" in path or "pytorch" in path for path, _ in published.requests)


@pytest.mark.parametrize(
    ("lies", "message"),
    [
        ({"siblings": [{"rfilename": "pytorch_model.bin", "size": 3, "blobId": "0"}]}, "holds no model of HEscribe"),
        ({"siblings": None}, "something else than a list of files"),
        ({"sha": "main/../../x"}, "which is no commit"),
    ],
)  # fmt: skip
def test_an_answer_that_lists_no_model_is_refused(published, tmp_path, lies, message, patience):
    published.lies = lies
    with pytest.raises(FormatError, match=message):
        pull_model(REPO, tmp_path / "back", patience=patience)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_file_that_was_changed_on_its_way_is_refused(published, folder, tmp_path, name):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    published.tampered = {name: bytes(content)}
    with pytest.raises(FormatError, match="expected"):
        pull_model(REPO, tmp_path / "back")
    assert {p.name for p in tmp_path.iterdir()} == {"model"}


def test_weights_that_do_not_fit_the_model_are_refused(published, tmp_path):
    published.repositories[REPO].add({"weights.safetensors": b"\x02\0\0\0\0\0\0\0{}"})
    with pytest.raises(FormatError, match=r"back"):
        pull_model(REPO, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_cut_connection_is_resumed(published, folder, tmp_path, patience):
    published.cuts = {"weights.safetensors": 1}
    pull_model(REPO, tmp_path / "back", patience=patience)
    ours, theirs = (p / "weights.safetensors" for p in (tmp_path / "back", folder))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_connection_that_is_always_cut_leaves_what_was_there(published, folder, tmp_path, patience):
    published.cuts = {"weights.safetensors": 99}
    before = (folder / "model.json").read_bytes()
    with pytest.raises(DataAccessError, match="cut"):
        pull_model(REPO, folder, overwrite=True, patience=patience)
    assert (folder / "model.json").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"model"}


@pytest.mark.parametrize(
    ("status", "message"), [(401, r"not given to you \(401\)"), (403, "hf auth login"), (404, "answered 404")]
)
def test_what_a_hub_refuses_to_give_is_told(published, tmp_path, patience, status, message):
    published.faults = [(status, {})]
    with pytest.raises(DataAccessError, match=message) as error:
        pull_model(REPO, tmp_path / "back", patience=patience)
    assert TOKEN not in str(error.value)
    assert not (tmp_path / "back").exists()


def test_a_hub_that_asks_to_wait_is_waited_for_or_told(published, tmp_path, patience):
    published.faults = [(429, {"Retry-After": "2"})]
    assert pull_model(REPO, tmp_path / "back", patience=patience).revision
    published.faults = [(429, {"Retry-After": "3600"})]
    with pytest.raises(DataAccessError, match="3600 s"):
        pull_model(REPO, tmp_path / "later", patience=patience)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"does not let you write my-lab/colour-ridge \(401\)"),
        (403, "write access"),
        (404, r"no place for my-lab/colour-ridge \(404\)"),
        (429, "fewer requests"),
        (400, "cannot be pushed"),
    ],
)  # fmt: skip
def test_what_a_hub_refuses_to_take_is_told(hub, folder, status, message):
    hub.faults = [(status, {"Retry-After": "0"})] * 9
    with pytest.raises(DataAccessError, match=message) as error:
        push_model(folder, REPO)
    assert TOKEN not in str(error.value)
    assert REPO not in hub.repositories


def test_a_push_needs_a_token(hub, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(DataAccessError, match="there is no Hugging Face token"):
        push_model(folder, REPO)
    assert not hub.requests


def test_nothing_is_asked_offline(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HESCRIBE_OFFLINE", "1")
    with pytest.raises(DataAccessError, match="switched off"):
        push_model(folder, REPO)
    with pytest.raises(DataAccessError, match="switched off"):
        pull_model(REPO, tmp_path / "back")
    assert not hub.requests


@pytest.mark.parametrize("name", ["her2st", "a/b/c", "../x", "a/..", "a/b?c", "", "a--b/c"])
def test_a_name_that_is_no_repository_is_refused(hub, folder, tmp_path, name):
    with pytest.raises(InputError, match="no repository"):
        push_model(folder, name)
    with pytest.raises(InputError, match="no repository"):
        pull_model(name, tmp_path / "back")
    assert not hub.requests


def test_a_folder_that_is_no_model_is_neither_pushed_nor_overwritten(hub, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataAccessError, match=r"model.json is missing"):
        push_model(tmp_path, REPO)
    with pytest.raises(DataAccessError, match="no model folder and is not overwritten"):
        pull_model(REPO, tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"licence": "unknown"}, "colour.* have no known licence"),
        ({"licence": "CC-BY-NC-SA-4.0"}, "are under CC-BY-NC-SA-4.0, which is not open"),
        ({"cohort": "hest_1k", "licence": "MIT"}, "hest_1k"),  # as its card in the catalogue says
    ],
)  # fmt: skip
def test_closed_or_unknown_terms_of_the_training_data_stop_a_push(hub, model, tmp_path, facts, message):
    closed = other_terms(model, **facts)
    write_model(tmp_path / "m", closed)
    with pytest.raises(InputError, match=message):
        push_model(tmp_path / "m", REPO)
    assert not hub.requests


def test_weights_that_hold_training_spots_are_named(model):
    closed = other_terms(model, licence="unknown")
    keeping = replace(closed, predictor=replace(closed.predictor, keep_spots=True))
    assert find_terms(keeping)[0] == f"{find_terms(closed)[0]}; its weights hold the expression of training spots"


def test_who_may_share_pushes_closed_data(hub, model, tmp_path):
    write_model(tmp_path / "m", other_terms(model, licence="unknown"))
    assert push_model(tmp_path / "m", REPO, may_share=True).revision


@pytest.mark.parametrize("licence", ["CC-BY-4.0", "MIT", "CC-BY-4.0 (as the record has it)"])
def test_open_terms_do_not(model, licence):
    assert not find_terms(other_terms(model, licence=licence))


def test_an_encoder_that_was_trained_further_stays_under_its_licence(model):
    trained = FittedModel(create_model("stnet"), replace(model.info, encoder=UNI))
    assert find_terms(trained) == ["its weights hold encoder uni, changed, which is under CC-BY-NC-ND-4.0"]
    assert not find_terms(FittedModel(model.predictor, trained.info))


def test_an_encoder_on_this_machine_alone_is_refused(hub, model, tmp_path, monkeypatch):
    write_model(tmp_path / "m", model)
    monkeypatch.setattr("hescribe.report.model_hub.encoder_name", lambda _: "../my/aligner")
    with pytest.raises(InputError, match="on this machine only"):
        push_model(tmp_path / "m", REPO)


def test_the_card_inherits_the_licence_of_the_encoder_and_names_its_gate(model):
    readme = render_readme(replace(model.info, licence="CC-BY-4.0", encoder=UNI))
    assert ModelCard(readme).data.license == "cc-by-nc-nd-4.0"
    assert "CC-BY-NC-ND-4.0 of its encoder uni. Encoder uni is gated" in readme


def test_two_strict_licences_are_both_named(model):
    info = replace(model.info, licence="CC-BY-NC-SA-4.0", encoder=UNI)
    facts = ModelCard(render_readme(info)).data.to_dict()
    assert facts["license"] == "other"
    assert facts["license_name"] == "CC-BY-NC-SA-4.0 (training data colour) and CC-BY-NC-ND-4.0 (encoder uni)"
    assert len(inherited_licences(info)) == 2


def test_the_command_line_pushes_and_pulls(hub, folder, tmp_path):
    def run(*words):
        done = CliRunner().invoke(app, ["model", *words, "--json"])
        assert TOKEN not in done.output
        return json.loads(done.stdout)

    pushed = run("push", str(folder), REPO)
    hub.repositories[REPO].add({"notes.txt": b"x"})
    pulled = run("pull", REPO, "--out", str(tmp_path / "back"), "--revision", pushed["revision"])
    assert pulled == {"out": str(tmp_path / "back"), "page": f"{hub.url}/{REPO}", "revision": pushed["revision"]}


def test_what_a_hub_refuses_is_one_sentence_and_no_traceback(hub, tmp_path):
    done = CliRunner().invoke(app, ["model", "pull", "my-lab/none", "--out", str(tmp_path / "none"), "--quiet"])
    assert done.exit_code == 1
    assert "answered 404" in done.stderr
    assert hub.requests == [("/api/models/my-lab/none/revision/main?blobs=true", f"Bearer {TOKEN}")]
