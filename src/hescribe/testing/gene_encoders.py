"""The contract of a gene encoder. Import the class into a test module, and every registered one is tested.

>>> from hescribe.testing.gene_encoders import TestGeneEncoderContract, gene_encoder, counted  # in your test module
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.encode.gene.base import GeneEncoder, encode_section, gene_encoders
from hescribe.errors import InputError, NotFittedError, PanelError
from hescribe.testing.cohorts import raw_colour_cohort

GENES = tuple(f"GENE{g}" for g in range(20))  # of the tiny vocabularies; the colour cohort has the first 12
SMALL: dict[str, dict[str, object]] = {
    "drvi": {"n_dims": 4, "n_steps": 5},
    "mlp": {"n_dims": 8, "n_steps": 5},
    "pca": {"n_dims": 4},
}


def write_tiny_nicheformer(folder: Path, *, layout: str = "hub", genes: tuple[str, ...] = GENES) -> dict[str, str]:
    """Write random weights of a small Nicheformer as published; return the parameters that use them.

    Parameters
    ----------
    folder
        Empty.
    layout
        ``"hub"``: safetensors with a configuration and a vocabulary. ``"lightning"``: a checkpoint of the training
        with the order of genes in an h5ad file.
    genes
        The vocabulary.
    """
    import torch  # noqa: PLC0415 - heavy
    from anndata import AnnData  # noqa: PLC0415 - heavy
    from safetensors.torch import save_file  # noqa: PLC0415 - heavy

    from hescribe.data.h5ad import write_h5ad  # noqa: PLC0415 - heavy
    from hescribe.encode.gene._nicheformer_network import AUXILIARY, NicheformerNetwork  # noqa: PLC0415 - imports torch
    from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

    n_tokens = len(genes) + AUXILIARY
    with seeded(0):
        network = NicheformerNetwork(n_tokens=n_tokens + 5, n_dims=8, n_hidden=16, n_layers=2, n_heads=2, n_places=24)
        state = dict(network.state_dict())
        state |= {f"encoder_layer.{k}": v.clone() for k, v in network.encoder.layers[0].state_dict().items()}
        state |= {"classifier_head.weight": torch.randn(n_tokens, 8), "classifier_head.bias": torch.zeros(n_tokens)}
    if layout == "lightning":
        state |= {"pooler_head.weight": torch.randn(8, 8), "cls_head.bias": torch.zeros(3)}
        content = {"state_dict": state, "hyper_parameters": {"nheads": 2, "dim_model": 8}, "epoch": 1}
        torch.save(content, folder / "nicheformer.ckpt")
        reference = AnnData(np.zeros((1, len(genes)), dtype=np.float32))
        reference.var_names = list(genes)
        write_h5ad(reference, folder / "model.h5ad")
        return {"weights": str(folder)}
    hub = {k if k.startswith("classifier_head") else f"nicheformer.{k}": v.contiguous() for k, v in state.items()}
    save_file({**hub, "nicheformer.pos": torch.arange(24)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "nicheformer", "nheads": 2}))
    special = {"[PAD]": 0, "[MASK]": 1, "[CLS]": 2, "[MODALITY_spatial]": 4, "[SPECIES_human]": 5, "[TECH_xenium]": 9}
    (folder / "vocab.json").write_text(json.dumps(special | {g: i + AUXILIARY for i, g in enumerate(genes)}))
    return {"weights": str(folder)}


def write_tiny_scfoundation(folder: Path, *, genes: tuple[str, ...] = GENES) -> dict[str, str]:
    """Write random weights of a small scFoundation as published; return the parameters that use them."""
    import torch  # noqa: PLC0415 - heavy

    from hescribe.encode.gene._scfoundation_network import GENES as TABLE  # noqa: PLC0415 - imports torch
    from hescribe.encode.gene._scfoundation_network import ScFoundationNetwork  # noqa: PLC0415 - imports torch
    from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

    sizes: dict[str, Any] = {"n_dims": 8, "n_hidden": 32, "n_layers": 2, "n_heads": 2, "n_bins": 5, "alpha": 1.0}
    encoder = {"module_type": "transformer", "hidden_dim": 8, "depth": 2, "heads": 2}
    model = {"encoder": encoder, "decoder": {"module_type": "performer"}, "bin_alpha": 1.0, "bin_num": 5}
    config = {"model": "mae_autobin", "model_config": {"mae_autobin": model}, "dataset_config": {"rnaseq": {}}}
    content = {}
    for i, branch in enumerate(("cell", "gene", "rde")):
        with seeded(i):
            state = ScFoundationNetwork(n_genes=len(genes), pooling="max", **sizes).state_dict()
        of_decoder = {
            "decoder.net.weight": torch.ones(2),
            "decoder_embed.bias": torch.ones(2),
            "norm.bias": torch.ones(2),
        }
        named = {f"model.{k}": v for k, v in {**state, **of_decoder, "to_final.bias": torch.ones(1)}.items()}
        content[branch] = {"config": config, "state_dict": named}
    torch.save(content, folder / "models.ckpt")
    lines = ["gene_name\tindex", *(f"{g}\t{i}" for i, g in enumerate(genes))]
    (folder / TABLE).write_text("\n".join(lines) + "\n")
    return {"weights": str(folder)}


PUBLISHED = {"nicheformer": write_tiny_nicheformer, "scfoundation": write_tiny_scfoundation}  # stand-ins


@pytest.fixture(scope="module", params=list(gene_encoders))
def gene_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return each registered gene encoder, not fitted, small, with random weights in place of published ones."""
    name = request.param
    given = PUBLISHED[name](tmp_path_factory.mktemp(name)) if name in PUBLISHED else SMALL.get(name, {})
    return gene_encoders.create(name, **given)


@pytest.fixture(scope="module")
def counted() -> Cohort:
    """Return a small cohort with raw counts."""
    return raw_colour_cohort()


def fit(encoder: Any, cohort: Cohort) -> Any:
    """Return a fitted copy."""
    return encoder.with_params().fit(cohort)


def counts_of(cohort: Cohort) -> np.ndarray:
    """Return the raw counts of its first section."""
    return cohort[0].layer(keys.COUNTS)


class TestGeneEncoderContract:
    """What every gene encoder, present and future, must do."""

    def test_card_is_complete(self, gene_encoder: Any) -> None:
        """Scaling, licence, paper and size are stated."""
        card = gene_encoder.card
        assert isinstance(gene_encoder, GeneEncoder)
        assert isinstance(card, GeneEncoderCard)
        assert all((card.name == gene_encoder.name, card.revision, card.scaling, card.licence, card.paper))
        assert card.n_dims > 0

    def test_parameters_make_the_same_encoder(self, gene_encoder: Any) -> None:
        """What get_params returns is enough to build it again."""
        assert gene_encoders.create(gene_encoder.name, **gene_encoder.get_params()) == gene_encoder

    def test_returns_one_finite_row_per_spot(self, gene_encoder: Any, counted: Cohort) -> None:
        """The length of a row is the card's."""
        encoder = fit(gene_encoder, counted)
        found = encoder.encode(counts_of(counted), counted.genes)
        assert found.shape == (counted[0].n_spots, encoder.card.n_dims)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(encode_section(encoder, counted[0]), found)

    def test_a_fitted_one_refuses_to_encode_before_fit(self, gene_encoder: Any, counted: Cohort) -> None:
        """Nothing is guessed."""
        if gene_encoder.card.revision == "fitted":
            with pytest.raises(NotFittedError, match="call fit"):
                gene_encoder.with_params().encode(counts_of(counted), counted.genes)

    def test_finds_genes_by_name(self, gene_encoder: Any, counted: Cohort) -> None:
        """Turning the panel around, names with columns, changes nothing."""
        encoder, counts = fit(gene_encoder, counted), counts_of(counted)
        order = np.random.default_rng(0).permutation(len(counted.genes))
        turned = encoder.encode(counts[:, order], tuple(counted.genes[i] for i in order))
        np.testing.assert_allclose(turned, encoder.encode(counts, counted.genes), rtol=1e-4, atol=1e-5)

    def test_a_permuted_panel_gives_other_rows(self, gene_encoder: Any, counted: Cohort) -> None:
        """Columns turned around under the old names are another expression."""
        encoder, counts = fit(gene_encoder, counted), counts_of(counted)
        right, wrong = encoder.encode(counts, counted.genes), encoder.encode(counts[:, ::-1], counted.genes)
        assert np.abs(right - wrong).max() > 1e-4

    def test_a_row_depends_on_its_own_spot_only(self, gene_encoder: Any, counted: Cohort) -> None:
        """Neither the number nor the order of the others changes it: no batch median, no padding to the longest."""
        encoder, counts = fit(gene_encoder, counted), counts_of(counted).copy()
        counts[0, 3:] = 0  # few genes beside many
        together = encoder.encode(counts, counted.genes)
        alone = np.concatenate([encoder.encode(counts[i : i + 1], counted.genes) for i in range(5)])
        np.testing.assert_allclose(alone, together[:5], rtol=1e-3, atol=1e-5)
        turned = encoder.encode(counts[::-1], counted.genes)[::-1]
        np.testing.assert_allclose(turned, together, rtol=1e-3, atol=1e-5)

    def test_says_whether_it_sees_depth(self, gene_encoder: Any, counted: Cohort) -> None:
        """Doubling all counts of a spot changes its row exactly if the card says so."""
        encoder, counts = fit(gene_encoder, counted), counts_of(counted)
        change = np.abs(encoder.encode(2 * counts, counted.genes) - encoder.encode(counts, counted.genes)).max()
        assert (change > 1e-3) == encoder.card.sees_depth

    def test_takes_an_empty_spot_and_no_spot(self, gene_encoder: Any, counted: Cohort) -> None:
        """Both occur in sections."""
        encoder, none = fit(gene_encoder, counted), np.zeros((1, len(counted.genes)), dtype=np.float32)
        assert np.isfinite(encoder.encode(none, counted.genes)).all()
        assert encoder.encode(none[:0], counted.genes).shape == (0, encoder.card.n_dims)

    def test_is_deterministic_and_leaves_its_input_alone(self, gene_encoder: Any, counted: Cohort) -> None:
        """Fitting twice gives the same rows; counts are only read."""
        counts = counts_of(counted).copy()
        before = counts.copy()
        first, second = (fit(gene_encoder, counted).encode(counts, counted.genes) for _ in range(2))
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(counts, before)

    def test_does_not_read_spots_that_are_not_kept(self, gene_encoder: Any, counted: Cohort) -> None:
        """Their counts cannot change the fit."""
        masked = counted.map(lambda s: s.with_kept(np.arange(s.n_spots) % 3 > 0))
        poisoned = masked.map(_poison)
        one, other = (fit(gene_encoder, c).encode(counts_of(counted), counted.genes) for c in (masked, poisoned))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    def test_reports_its_coverage(self, gene_encoder: Any, counted: Cohort) -> None:
        """Genes that it does not know are named, and their counts are not read."""
        encoder, genes = fit(gene_encoder, counted), (*counted.genes, "NOBODY")
        found = encoder.coverage(genes)
        assert found.missing == ("NOBODY",)
        assert str(found).startswith("12 of 13 genes known (92%); unknown: NOBODY")
        counts = np.hstack([counts_of(counted), np.full((counted[0].n_spots, 1), 999)])
        known = encoder.encode(counts_of(counted), counted.genes)
        np.testing.assert_allclose(encoder.encode(counts, genes), known, rtol=1e-4, atol=1e-5)

    def test_refuses_a_panel_that_it_hardly_knows(self, gene_encoder: Any, counted: Cohort) -> None:
        """Under half is an error that says how much is known and what is not."""
        encoder = fit(gene_encoder, counted)
        genes = (*counted.genes[:5], *(f"NOBODY{i}" for i in range(7)))
        with pytest.raises(PanelError, match=r"less than half of the panel: 5 of 12 genes known \(42%\); unknown: NOB"):
            encoder.encode(counts_of(counted), genes)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ("transposed", r"expected \(n_spots, 12\)"), ("normalised", "no count"), ("negative", "no count"),
            ("not finite", "spot 2 has the value nan for GENE1"), ("twice", "gene GENE1 is named twice"),
        ],
    )  # fmt: skip
    def test_refuses_what_are_no_counts(self, gene_encoder: Any, counted: Cohort, wrong: str, told: str) -> None:
        """The message names the spot, the gene and what was expected."""
        encoder, counts, genes = fit(gene_encoder, counted), counts_of(counted).copy(), counted.genes
        if wrong == "transposed":
            counts = counts.T
        elif wrong == "normalised":
            counts = np.log1p(counts)
        elif wrong == "negative":
            counts[2, 1] = -1
        elif wrong == "not finite":
            counts[2, 1] = np.nan
        else:
            genes = (*genes[:2], genes[1], *genes[3:])
        with pytest.raises(InputError, match=told):
            encoder.encode(counts, genes)

    def test_survives_saving(self, gene_encoder: Any, counted: Cohort) -> None:
        """What a fit leaves behind is arrays and plain values, and is enough to encode."""
        fitted = fit(gene_encoder, counted)
        restored = fitted.with_params().set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
        rows = (e.encode(counts_of(counted), counted.genes) for e in (restored, fitted))
        np.testing.assert_array_equal(*rows)


def _poison(section: Any) -> Any:
    table = section.table.copy()
    counts = table.layers[keys.COUNTS].toarray()
    counts[~section.kept] = 7777
    table.layers[keys.COUNTS] = counts
    return section.with_table(table)
