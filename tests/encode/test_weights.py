"""Weights of timm and hub models: found locally, refused with one instruction, loaded strictly."""

import socket
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from hescribe.encode import _backends, _weights
from hescribe.encode.hub_model import HubModel, _read_card, hub_models
from hescribe.encode.timm_model import TimmModel
from hescribe.errors import DataAccessError, FormatError, UnknownNameError
from hescribe.testing.encoders import tissue_like, write_tiny_card, write_tiny_timm

THEIR_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks.0.norm1": "encoder.layer.0.layernorm_before",
    "blocks.0.attn.proj": "encoder.layer.0.attention.output.dense",
    "blocks.0.norm2": "encoder.layer.0.layernorm_after",
    "blocks.0.mlp.fc1": "encoder.layer.0.intermediate.dense",
    "blocks.0.mlp.fc2": "encoder.layer.0.output.dense",
    "norm": "layernorm",
}
NAMES = ["conch", "gigapath", "h0_mini", "h_optimus_0", "phikon", "uni", "uni2", "virchow2"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_a, **_k: None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HESCRIBE_OFFLINE", raising=False)


def answer(status: int) -> SimpleNamespace:
    """What the hub's errors read of a response."""
    return SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(url="https://huggingface.co/x"))


def hub_raises(monkeypatch, error):
    def download(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


def test_the_cards_of_the_issue_are_there():
    assert hub_models() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_describes_the_network_it_builds(name):
    from hescribe.encode._transformers import empty  # noqa: PLC0415 - heavy

    card, facts = HubModel(model=name).card, _read_card(name)["network"]
    with torch.device("meta"):  # shapes only: a giant network takes no memory
        module = empty(facts)
        found = module(torch.empty(1, 3, card.px, card.px))
    assert found.shape == (1, card.n_dims)
    assert sum(p.numel() for p in module.parameters()) == card.n_params
    assert card.fov_um == (card.px * card.mpp,)
    assert all((card.licence, card.paper, card.trained_on, facts["repository"]))


@pytest.mark.parametrize(
    "error",
    [
        errors.GatedRepoError("gated", response=answer(403)),
        errors.RepositoryNotFoundError("not found, or no access", response=answer(401)),
    ],
)
def test_a_gated_model_gives_one_instruction(monkeypatch, error):
    hub_raises(monkeypatch, error)
    with pytest.raises(DataAccessError, match="hf auth login") as caught:
        HubModel(model="uni2").encode(tissue_like(1, 224))
    assert "https://huggingface.co/MahmoodLab/UNI2-h" in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        errors.LocalEntryNotFoundError("no connection"),
        RuntimeError("no route"),
        ConnectionError("reset"),
        errors.HfHubHTTPError("server error", response=answer(503)),
    ],
)
def test_a_hub_that_does_not_answer_is_said_so(monkeypatch, error):
    hub_raises(monkeypatch, error)
    with pytest.raises(DataAccessError, match=r"cannot be downloaded .*try again"):
        TimmModel(model="test_resnet").network()


def test_a_repository_without_weights_is_said_so(monkeypatch):
    hub_raises(monkeypatch, errors.RemoteEntryNotFoundError("no such file", response=answer(404)))
    with pytest.raises(DataAccessError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        HubModel(model="phikon").network()


@pytest.mark.parametrize("encoder", [HubModel(model="gigapath"), TimmModel(model="test_resnet")])
def test_without_network_it_says_so_at_once(monkeypatch, encoder):
    monkeypatch.setenv("HESCRIBE_OFFLINE", "1")
    hub_raises(monkeypatch, AssertionError("must not be asked"))
    with pytest.raises(DataAccessError, match=r"network is switched off; .* weights="):
        encoder.network()


def test_downloaded_weights_need_no_network(monkeypatch, tmp_path):
    params = write_tiny_timm(tmp_path)
    monkeypatch.setenv("HESCRIBE_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_a, **_k: params["weights"])
    patches = tissue_like(2, 160)
    np.testing.assert_allclose(
        TimmModel(model="test_resnet").encode(patches), TimmModel(**params).encode(patches), rtol=1e-4, atol=1e-5
    )


def test_timm_features_are_those_before_the_classifier(tmp_path):
    import timm  # noqa: PLC0415 - heavy

    params = write_tiny_timm(tmp_path)
    network = timm.create_model("test_resnet").eval()
    network.load_state_dict(load_file(params["weights"]))
    patches = tissue_like(2, 160)
    x = torch.tensor(patches).permute(0, 3, 1, 2) / 255
    config = network.pretrained_cfg
    x = (x - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(x), pre_logits=True).numpy()
    found = _backends.plain(TimmModel(**params).network())(patches)  # a faster way may round to bfloat16
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_token_and_mean_leaves_the_registers_out(tmp_path):
    encoder = HubModel(**write_tiny_card(tmp_path, "token and mean"))
    module = encoder.network().module
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens, found = module.trunk.forward_features(x), module(x)
    assert tokens.shape[1] == 1 + 2 + 4  # class token, two registers, four patches of 16 px
    torch.testing.assert_close(found, torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], dim=1))


def test_weights_under_other_names_load_into_the_same_network():
    """Name timm's weights as the transformers library does; they must come back as they were."""
    import timm  # noqa: PLC0415 - heavy

    from hescribe.encode._transformers import from_transformers  # noqa: PLC0415 - heavy

    ours = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0).state_dict()
    theirs = {}
    for name, value in ours.items():
        place, _, kind = name.rpartition(".")
        if place.endswith("attn.qkv"):
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                theirs[f"encoder.layer.0.attention.attention.{part}.{kind}"] = piece
        else:
            theirs[f"{THEIR_NAMES[place]}.{kind}" if place else THEIR_NAMES[name]] = value
    theirs["pooler.dense.weight"] = torch.zeros(2, 2)
    found = from_transformers(theirs)
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[name], ours[name]) for name in ours)


def test_conch_takes_the_image_tower_out_of_the_whole_model():
    from hescribe.encode._transformers import Conch, build, empty  # noqa: PLC0415 - heavy

    facts = {"architecture": "vit_base_patch16_224", "pooling": "conch", "arguments": {"img_size": 32, "depth": 1}}
    tower = empty(facts)
    whole = {f"visual.{name}": value for name, value in tower.state_dict().items()}
    whole |= {"visual.proj_contrast": torch.zeros(2), "text.cls_emb": torch.zeros(2), "logit_scale": torch.zeros(())}
    module = build(facts, whole, where="whole.bin")
    assert isinstance(module, Conch)
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), tower.eval()(x))
    assert module(x).shape == (3, 512)


@pytest.mark.parametrize("fault", ["missing", "left over", "of another shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, fault):
    params = write_tiny_card(tmp_path)
    state = load_file(params["weights"])
    if fault == "missing":
        del state["norm.weight"]
    elif fault == "left over":
        state["extra"] = torch.zeros(1)
    else:
        state["norm.weight"] = torch.zeros(3)
    save_file(state, params["weights"])
    with pytest.raises(FormatError, match=r"tiny.safetensors does not fit the network: .*(norm.weight|extra)"):
        HubModel(**params).network()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."])
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_a_damaged_or_executable_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name} is damaged or holds no plain weights"):
        _weights.read_weights(tmp_path / name)


def test_a_torch_file_that_is_no_dict_is_refused(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "w.pt")
    with pytest.raises(FormatError, match="holds a Tensor, expected a dict"):
        _weights.read_weights(tmp_path / "w.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"absent\.pt"):
        HubModel(model="uni", weights=str(tmp_path / "absent.pt")).network()


def test_other_weights_in_the_same_file_make_another_card(tmp_path):
    params = write_tiny_card(tmp_path)
    before = HubModel(**params).card
    state = load_file(params["weights"])
    save_file({**state, "extra": torch.zeros(1)}, params["weights"])
    after = HubModel(**params).card
    assert after.revision != before.revision
    assert replace(after, revision=before.revision) == before


def test_unknown_models_are_refused_with_a_hint():
    with pytest.raises(UnknownNameError, match="known: conch, gigapath"):
        HubModel(model="uni3").card  # noqa: B018 - the property reads the card
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50"):
        TimmModel(model="resnet50.a1_in2k").card  # noqa: B018 - as above


@pytest.mark.parametrize("content", ["x = [", "[card]\nname = 'x'\n[network]\n", "[card]\n"])
def test_a_broken_card_is_refused(tmp_path, content):
    path = tmp_path / f"card{len(content)}.toml"
    path.write_text(content)
    with pytest.raises(FormatError, match="is no card of an encoder"):
        HubModel(model=str(path)).card  # noqa: B018 - as above
