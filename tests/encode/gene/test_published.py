"""Encoders with published weights: loading is strict, and what goes in is what their authors put in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hescribe.encode.gene._nicheformer_network import AUXILIARY, read_release
from hescribe.encode.gene._scfoundation_network import read_release as read_scfoundation
from hescribe.encode.gene.base import find_genes
from hescribe.encode.gene.nicheformer import NicheformerEncoder
from hescribe.encode.gene.scfoundation import ScFoundationEncoder
from hescribe.errors import DataAccessError, FormatError, InputError, PanelError
from hescribe.testing.gene_encoders import GENES, write_tiny_nicheformer, write_tiny_scfoundation

COUNTS = np.array([[0, 5, 2, 9, 0, 1], [4, 0, 0, 0, 0, 0], [3, 3, 0, 1, 8, 2]], dtype=np.float32)
PANEL = GENES[:6]


@pytest.fixture
def nicheformer(tmp_path):
    return NicheformerEncoder(**write_tiny_nicheformer(tmp_path))


@pytest.fixture
def scfoundation(tmp_path):
    return ScFoundationEncoder(**write_tiny_scfoundation(tmp_path))


def edit_hub(encoder, change):
    """Rewrite the weights of the hub's layout."""
    path = Path(encoder.weights) / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


class TestNicheformer:
    def embed_by_hand(self, encoder, tokens):
        """One spot, no padding, layer by layer."""
        network = read_release(Path(encoder.weights), "by hand").network
        with torch.no_grad():
            tokens = torch.tensor([[5, 9, 4, *tokens]])  # man, Xenium, spatial
            x = network.embeddings(tokens) + network.positional_embedding(torch.arange(tokens.shape[1]))
            for layer in network.encoder.layers:
                x = layer(x)
            return x[0, 3:].mean(dim=0).numpy()

    def test_reads_expressed_genes_by_descending_count_behind_three_tokens(self, nicheformer):
        found = nicheformer.encode(COUNTS, PANEL)
        orders = ([3, 1, 2, 5], [0], [4, 0, 1, 5, 3])  # of equal counts the first token first
        for row, order in zip(found, orders, strict=True):
            by_hand = self.embed_by_hand(nicheformer, [g + AUXILIARY for g in order])
            np.testing.assert_allclose(row, by_hand, atol=1e-5)

    def test_genes_without_counts_are_no_tokens(self, nicheformer):
        more = np.hstack([COUNTS, np.zeros((3, 6))])
        np.testing.assert_allclose(nicheformer.encode(more, GENES[:12]), nicheformer.encode(COUNTS, PANEL), atol=1e-5)

    def test_counts_are_taken_over_the_mean_of_the_technology(self, nicheformer, tmp_path):
        mean = np.ones(20)
        mean[3], mean[7] = 100.0, np.nan
        np.save(tmp_path / "mean.npy", mean)
        encoder = nicheformer.with_params(technology_mean=str(tmp_path / "mean.npy"))
        by_hand = self.embed_by_hand(nicheformer, [g + AUXILIARY for g in (1, 2, 5, 3)])  # 9 / 100 comes last
        np.testing.assert_allclose(encoder.encode(COUNTS, PANEL)[0], by_hand, atol=1e-5)

    def test_means_of_another_vocabulary_are_refused(self, nicheformer, tmp_path):
        np.save(tmp_path / "mean.npy", np.ones(7))
        with pytest.raises(InputError, match=r"has shape \(7,\), expected one mean for each of the 20 genes"):
            nicheformer.with_params(technology_mean=str(tmp_path / "mean.npy")).encode(COUNTS, PANEL)

    def test_a_spot_with_more_genes_than_places_keeps_its_highest(self, tmp_path):
        genes = tuple(f"G{i}" for i in range(30))  # 24 places, three of them taken
        encoder = NicheformerEncoder(**write_tiny_nicheformer(tmp_path, genes=genes))
        counts = np.arange(30, 0, -1, dtype=np.float32)[None]
        by_hand = self.embed_by_hand(encoder, [g + AUXILIARY for g in range(21)])
        np.testing.assert_allclose(encoder.encode(counts, genes)[0], by_hand, atol=1e-5)

    def test_organism_and_technology_are_tokens(self, nicheformer):
        as_usual = nicheformer.encode(COUNTS, PANEL)
        for change in ({"organism": "mouse"}, {"technology": "cosmx"}):
            assert np.abs(nicheformer.with_params(**change).encode(COUNTS, PANEL) - as_usual).max() > 1e-4

    def test_both_published_layouts_give_the_same_rows(self, nicheformer, tmp_path):
        folder = tmp_path / "archive"
        folder.mkdir()
        other = NicheformerEncoder(**write_tiny_nicheformer(folder, layout="lightning"))
        np.testing.assert_allclose(other.encode(COUNTS, PANEL), nicheformer.encode(COUNTS, PANEL), atol=1e-6)

    def test_symbols_find_identifiers(self, tmp_path):
        ids = ("ENSG00000141510", "ENSG00000075624", "ENSG00000111640")  # TP53, ACTB, GAPDH
        encoder = NicheformerEncoder(**write_tiny_nicheformer(tmp_path, genes=ids))
        counts = np.array([[1.0, 7.0, 3.0]])
        by_symbol = encoder.encode(counts, ("GAPDH", "TP53", "ACTB"))
        np.testing.assert_array_equal(by_symbol, encoder.encode(counts, (ids[2], ids[0], ids[1])))
        with pytest.raises(PanelError, match="0 of 3 genes known"):  # mouse names of other genes
            encoder.with_params(organism="mouse").encode(counts, ("Gapdh", "Trp53", "Actb"))

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda s: s.pop("nicheformer.encoder.layers.1.norm2.bias"), "norm2.bias"),
            (lambda s: s.update({"nicheformer.extra.weight": torch.ones(1)}), "extra.weight"),
            (lambda s: s.update({"nicheformer.encoder.layers.0.linear2.bias": torch.ones(3)}), "linear2.bias"),
            (lambda s: s.pop("nicheformer.positional_embedding.weight"), "no entry 'positional_embedding.weight'"),
        ],
    )
    def test_weights_that_do_not_fit_exactly_are_refused(self, nicheformer, change, told):
        edit_hub(nicheformer, change)
        with pytest.raises(FormatError, match=told):
            nicheformer.encode(COUNTS, PANEL)

    def test_a_vocabulary_of_another_release_is_refused(self, nicheformer):
        path = Path(nicheformer.weights) / "vocab.json"
        longer = {**json.loads(path.read_text()), **{f"NEW{i}": 50 + i for i in range(9)}}
        path.write_text(json.dumps(longer))
        with pytest.raises(FormatError, match="needs 59 tokens and the weights have 55"):
            nicheformer.encode(COUNTS, PANEL)

    def test_a_vocabulary_with_gaps_is_refused(self, nicheformer):
        path = Path(nicheformer.weights) / "vocab.json"
        tokens = json.loads(path.read_text())
        del tokens["GENE4"]
        path.write_text(json.dumps(tokens))
        with pytest.raises(FormatError, match="do not count up from 30"):
            nicheformer.encode(COUNTS, PANEL)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
    def test_a_missing_file_is_named(self, nicheformer, name):
        (Path(nicheformer.weights) / name).unlink()
        with pytest.raises(DataAccessError, match=name):
            nicheformer.encode(COUNTS, PANEL)

    def test_a_truncated_file_is_refused(self, nicheformer):
        path = Path(nicheformer.weights) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(FormatError, match="damaged"):
            nicheformer.encode(COUNTS, PANEL)

    def test_changed_weights_are_read_again(self, nicheformer):
        before = nicheformer.encode(COUNTS, PANEL)
        edit_hub(nicheformer, lambda s: s["nicheformer.embeddings.weight"].mul_(2))
        assert np.abs(nicheformer.encode(COUNTS, PANEL) - before).max() > 1e-3

    def test_without_a_network_the_hub_is_said_to_be_missing(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HESCRIBE_OFFLINE", "1")
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
        assert "huggingface.co/theislab/Nicheformer" in NicheformerEncoder().missing()
        with pytest.raises(DataAccessError, match=r"config.json of theislab/Nicheformer .*switched off"):
            NicheformerEncoder().encode(COUNTS, PANEL)


class TestScFoundation:
    def embed_by_hand(self, encoder, counts):
        """One spot, no padding, layer by layer: genes, the wanted total, the spot's own."""
        release = read_scfoundation(Path(encoder.weights), "by hand", encoder.branch, "max")
        network, places = release.network, np.flatnonzero(counts)
        values = [*np.log1p(counts[places] / counts.sum() * 1e4), 4.0, np.log10(counts.sum())]
        with torch.no_grad():
            v, emb = torch.tensor(values, dtype=torch.float32)[:, None], network.token_emb
            bins = torch.nn.functional.leaky_relu(v @ emb.mlp.weight.T + emb.mlp.bias, 0.1)
            bins = torch.softmax(bins + bins @ emb.mlp2.weight.T + emb.mlp2.bias, dim=1)
            x = bins @ emb.emb.weight + network.pos_emb(torch.tensor([*places, 20, 21]))
            x = x[None]
            for layer in network.encoder.transformer_encoder:
                x = layer(x)
            return network.encoder.norm(x)[0].numpy()

    def test_reads_values_of_expressed_genes_and_two_totals(self, scfoundation):
        for row, counts in zip(scfoundation.encode(COUNTS, PANEL), COUNTS, strict=True):
            np.testing.assert_allclose(row, self.embed_by_hand(scfoundation, counts).max(axis=0), atol=1e-5)

    def test_all_is_both_totals_the_highest_and_the_mean(self, scfoundation):
        found = scfoundation.with_params(pooling="all").encode(COUNTS, PANEL)
        for row, counts in zip(found, COUNTS, strict=True):
            x = self.embed_by_hand(scfoundation, counts)
            expected = np.concatenate([x[-1], x[-2], x[:-2].max(axis=0), x[:-2].mean(axis=0)])
            np.testing.assert_allclose(row, expected, atol=1e-5)
        assert scfoundation.with_params(pooling="all").card.n_dims == 32

    def test_branches_are_different_weights(self, scfoundation):
        cell, gene = (scfoundation.with_params(branch=b).encode(COUNTS, PANEL) for b in ("cell", "gene"))
        assert np.abs(cell - gene).max() > 1e-2

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda c: c["cell"]["state_dict"].pop("model.encoder.norm.bias"), "encoder.norm.bias"),
            (lambda c: c["cell"]["state_dict"].update({"model.token_emb.new": torch.ones(1)}), "token_emb.new"),
            (lambda c: c.pop("cell"), r"no entry 'cell' \(gene, rde\)"),
            (lambda c: c["cell"]["config"].pop("model_config"), "no entry 'model_config'"),
        ],
    )
    def test_a_checkpoint_that_does_not_fit_exactly_is_refused(self, scfoundation, change, told):
        path = Path(scfoundation.weights) / "models.ckpt"
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
        with pytest.raises(FormatError, match=told):
            scfoundation.encode(COUNTS, PANEL)

    def test_a_list_of_other_genes_is_refused(self, scfoundation):
        path = next(Path(scfoundation.weights).glob("*.tsv"))
        path.write_text("gene_name\tindex\nGENE0\t0\n")
        with pytest.raises(FormatError, match=r"the weights are for 20 genes and .* lists 1"):
            scfoundation.encode(COUNTS, PANEL)

    def test_a_table_without_names_is_refused(self, scfoundation):
        path = next(Path(scfoundation.weights).glob("*.tsv"))
        path.write_text("symbol\nGENE0\n")
        with pytest.raises(FormatError, match="has no column 'gene_name'; it has symbol"):
            scfoundation.encode(COUNTS, PANEL)

    def test_a_checkpoint_that_would_run_code_is_not_read(self, scfoundation):
        torch.save({"cell": Path}, Path(scfoundation.weights) / "models.ckpt")
        with pytest.raises(FormatError, match="holds no plain weights"):
            scfoundation.encode(COUNTS, PANEL)

    def test_weights_must_be_fetched_by_hand(self):
        assert "fetched by hand" in ScFoundationEncoder().missing()
        with pytest.raises(DataAccessError, match=r"github.com/biomap-research/scFoundation, then give weights="):
            ScFoundationEncoder().encode(COUNTS, PANEL)


@pytest.mark.parametrize("encoder", [NicheformerEncoder, ScFoundationEncoder])
def test_a_folder_that_is_none_is_refused(encoder, tmp_path):
    with pytest.raises(DataAccessError, match="is no folder"):
        encoder(weights=str(tmp_path / "nowhere")).encode(COUNTS, PANEL)


def test_a_release_may_be_moved(scfoundation, tmp_path):
    before = scfoundation.encode(COUNTS, PANEL)
    shutil.copytree(scfoundation.weights, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    np.testing.assert_array_equal(ScFoundationEncoder(weights=str(tmp_path / "moved")).encode(COUNTS, PANEL), before)


def test_of_two_names_of_one_gene_none_takes_its_place():
    with pytest.raises(PanelError, match=r"1 of 3 genes known \(33%\); unknown: TP53, ENSG00000141510"):
        find_genes(("TP53", "ENSG00000141510", "ACTB"), ("ACTB", "TP53"), encoder="e", organism="human")


def test_an_empty_panel_is_refused():
    with pytest.raises(PanelError, match="which is empty"):
        find_genes((), ("A",), encoder="e")
