"""InfoNCE, SigLIP and soft targets: losses by hand, planted signals and faults, inner choices, and bad input."""

import numpy as np
import pytest
import torch
from tests.align.held_out import SMALL, auc, split

from hescribe import keys
from hescribe.align.base import to_pairs
from hescribe.align.bleep import BleepAligner
from hescribe.align.infonce import InfoNCEAligner
from hescribe.align.mclstexp import MclstexpAligner
from hescribe.align.robust import RobustAligner
from hescribe.align.siglip import SigLIPAligner
from hescribe.data.cohort import Cohort
from hescribe.encode.frozen_images import ImageScale
from hescribe.encode.gene.nicheformer import NicheformerEncoder
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, PanelError, TrainingError
from hescribe.testing.gene_encoders import write_tiny_nicheformer
from hescribe.train import contrastive
from hescribe.train.contrastive import sigmoid_pair_loss
from hescribe.train.turns import take_turns


def permuted(section, seed=0):
    """The section with its counts given to other spots: a planted fault."""
    table = section.table.copy()
    order = np.random.default_rng(seed).permutation(section.n_spots)
    for name in (keys.COUNTS, keys.TARGET):
        table.layers[name] = table.layers[name][order]
    return section.with_table(table)


class TestSigmoidLoss:
    def test_by_hand(self):
        image, expression = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        # similarities: both expressions 1 to image 0 and 0 to image 1; scale 2, offset -1
        logits = np.array([[2 - 1, 0 - 1], [2 - 1, 0 - 1]])
        signs = np.array([[1, -1], [-1, 1]])
        expected = np.log1p(np.exp(-signs * logits)).sum() / 2
        assert sigmoid_pair_loss(image, expression, 2.0, -1.0).item() == pytest.approx(expected, rel=1e-6)

    def test_does_not_depend_on_what_else_is_in_the_batch_but_adds_it(self):
        rng = torch.Generator().manual_seed(0)
        image, expression = torch.randn(2, 6, 3, generator=rng)
        whole = sigmoid_pair_loss(image, expression, 1.0, -2.0) * 6
        signs = 2 * torch.eye(6) - 1
        each = -torch.nn.functional.logsigmoid(signs * (expression @ image.T - 2.0))
        torch.testing.assert_close(whole, each.sum())


@pytest.mark.parametrize(
    "aligner", [InfoNCEAligner(**SMALL), SigLIPAligner(**SMALL), BleepAligner(**SMALL)], ids=lambda a: a.name
)
class TestSignal:
    def test_pairs_of_a_new_donor_are_found(self, aligner, cohort):
        train, test = split(cohort)
        assert auc(aligner.with_params().fit(train), test) > 0.65

    def test_heads_as_they_are_drawn_find_nothing(self, aligner, cohort):
        train, test = split(cohort)
        assert auc(aligner.with_params(epochs=0).fit(train), test) == pytest.approx(0.5, abs=0.1)

    def test_permuted_counts_are_not_found(self, aligner, cohort):
        train, test = split(cohort)
        fitted = aligner.with_params().fit(train)
        assert auc(fitted, test.map(permuted)) == pytest.approx(0.5, abs=0.1)

    def test_training_on_permuted_pairs_teaches_nothing(self, aligner, cohort):
        train, test = split(cohort)
        assert auc(aligner.with_params().fit(train.map(permuted)), test) == pytest.approx(0.5, abs=0.12)

    def test_linear_heads_do_as_well(self, aligner, cohort):
        train, test = split(cohort)
        assert auc(aligner.with_params(head="linear", gene_head="linear").fit(train), test) > 0.65

    def test_a_seed_decides(self, aligner, cohort):
        train, test = split(cohort)
        one, other = (aligner.with_params(seed=s, epochs=2).fit(train).embed_image(test[0]) for s in (0, 1))
        assert np.abs(one - other).max() > 0.01


def test_heads_of_attention_do_as_well(cohort):
    train, test = split(cohort)
    aligner = InfoNCEAligner(**SMALL | {"epochs": 20}, head="transformer", gene_head="transformer", dropout=0.0)
    assert auc(aligner.fit(train), test) > 0.65


class TestInnerChoice:
    def test_epochs_are_chosen_on_held_out_train_donors(self, cohort):
        train, _ = split(cohort)
        fitted = InfoNCEAligner(**SMALL | {"epochs": None}).fit(train)
        assert fitted.epochs_ in {2, 5, 10, 20, 40}

    def test_a_given_cohort_takes_their_place(self, cohort):
        """Chosen on permuted pairs nothing is better than the first: the shortest of equals, or a lottery."""
        train, test = split(cohort)
        aligner = InfoNCEAligner(**SMALL | {"epochs": None})
        scores = {e: auc(aligner.with_params(epochs=e).fit(train), test) for e in (2, 5, 10, 20, 40)}
        assert aligner.fit(train, val=test).epochs_ == max(scores, key=scores.get)

    def test_a_cohort_without_inner_folds_needs_epochs(self, cohort):
        one = Cohort((cohort[0].with_kept(np.arange(49) < 2),))
        with pytest.raises(InputError, match="too small to choose epochs on; give epochs="):
            InfoNCEAligner(**SMALL | {"epochs": None}).fit(one)


class TestBadInput:
    def test_one_spot_cannot_be_told_from_another(self, cohort):
        one = Cohort((cohort[0].with_kept(np.arange(49) == 3),))
        with pytest.raises(InputError, match="at least 2 train spots to tell apart, got 1"):
            InfoNCEAligner(**SMALL).fit(one)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"n_dims": 1}, "n_dims of InfoNCEAligner must be at least 2"),
            ({"dropout": 1.0}, "dropout of InfoNCEAligner must be between"),
            ({"epochs": -1}, "epochs of InfoNCEAligner must be at least 0"),
            ({"batch_size": 1}, "batch_size of InfoNCEAligner must be at least 2"),
            ({"standardise": "slide"}, "standardise of InfoNCEAligner must be 'train' or 'section'"),
            ({"gene_encoder": "pca"}, "gene_encoder of InfoNCEAligner must be"),
        ],
    )
    def test_parameters_out_of_their_limits_are_refused(self, cohort, given, told):
        with pytest.raises(InputError, match=told):
            InfoNCEAligner(**SMALL).with_params(**given).fit(cohort)

    def test_a_gene_encoder_that_hardly_knows_the_panel_is_refused(self, cohort, tmp_path):
        weights = write_tiny_nicheformer(tmp_path, genes=("GENE0", "GENE1", "OTHER"))
        aligner = InfoNCEAligner(**SMALL | {"gene_encoder": NicheformerEncoder(**weights)})
        with pytest.raises(PanelError, match=r"nicheformer knows less than half of the panel: 2 of 12"):
            aligner.fit(cohort)

    def test_a_published_gene_encoder_stands_beside_an_image_encoder(self, cohort, tmp_path):
        aligner = InfoNCEAligner(**SMALL | {"gene_encoder": NicheformerEncoder(**write_tiny_nicheformer(tmp_path))})
        train, test = split(cohort)
        assert np.isfinite(aligner.fit(train).embed_expression(test[0])).all()

    def test_a_section_without_counts_is_named(self, cohort):
        fitted = InfoNCEAligner(**SMALL | {"epochs": 1}).fit(cohort)
        with pytest.raises(InputError, match="section s0 has no layer 'counts'"):
            fitted.embed_expression(cohort[0].blind())

    def test_embeddings_that_are_not_finite_are_named_with_their_spot(self, cohort, monkeypatch):
        class Broken(PCAEncoder):
            def encode(self, counts, genes):
                x = super().encode(counts, genes)
                x[5, 1] = np.nan
                return x

        with pytest.raises(InputError, match="embeddings of gene encoder pca are not finite at train spot 5"):
            InfoNCEAligner(**SMALL | {"gene_encoder": Broken(n_dims=4)}).fit(cohort)
        monkeypatch.setattr(
            "hescribe.encode.spot_inputs.embed_section", lambda s, *_, **__: np.full((s.n_spots, 3), np.inf)
        )
        monkeypatch.setattr("hescribe.encode.frozen_images.ImageScale.of", lambda *_: ImageScale())
        with pytest.raises(InputError, match="image features of color are not finite at train spot 0"):
            InfoNCEAligner(**SMALL).fit(cohort)

    def test_a_diverging_training_is_an_error(self, cohort):
        with pytest.raises(TrainingError, match="the loss is nan"):
            InfoNCEAligner(**SMALL).with_params(lr=1e18, epochs=5).fit(cohort)

    def test_no_kept_spot_cannot_be_embedded(self, cohort):
        fitted = InfoNCEAligner(**SMALL | {"epochs": 1}).fit(cohort)
        with pytest.raises(InputError, match="no spot of cohort colour is kept"):
            to_pairs(fitted, cohort.map(lambda s: s.with_kept(np.zeros(49, dtype=bool))))


class TestBalancedDonors:
    def uneven(self, cohort):
        """One donor with all of its spots, the other with four a section."""
        train, _ = split(cohort)
        return train.map(lambda s: s if s.donor == "D0" else s.with_kept(np.arange(49) < 4))

    def test_batches_hold_as_many_spots_of_a_small_donor(self, cohort, monkeypatch):
        seen = {}

        def watch(network, x, take, loss, recipe, *, snapshots, group, balance):
            seen["balance"] = balance
            return real(network, x, take, loss, recipe, snapshots=snapshots, group=group, balance=balance)

        real = contrastive.train_towers
        monkeypatch.setattr(contrastive, "train_towers", watch)
        InfoNCEAligner(**SMALL | {"epochs": 1}, balance_donors=True).fit(self.uneven(cohort))
        assert [str(d) for d, n in zip(*np.unique(seen["balance"], return_counts=True), strict=True)] == ["D0", "D1"]
        assert np.unique(seen["balance"], return_counts=True)[1].tolist() == [98, 8]
        drawn = seen["balance"][take_turns(seen["balance"], np.random.default_rng(0))]
        assert np.unique(drawn, return_counts=True)[1].tolist() == [53, 53]
        InfoNCEAligner(**SMALL | {"epochs": 1}).fit(self.uneven(cohort))
        assert seen["balance"] is None

    def test_they_change_what_is_learned(self, cohort):
        one, other = (
            InfoNCEAligner(**SMALL | {"epochs": 2}, balance_donors=b).fit(self.uneven(cohort)).embed_image(cohort[0])
            for b in (False, True)
        )
        assert np.abs(one - other).max() > 0.01

    @pytest.mark.parametrize("aligner", [InfoNCEAligner, SigLIPAligner, BleepAligner, MclstexpAligner, RobustAligner])
    def test_a_cohort_of_one_donor_is_refused(self, cohort, aligner):
        one = cohort.map(lambda s: s if s.donor == "D1" else s.with_kept(np.zeros(49, dtype=bool)))
        with pytest.raises(InputError, match=r"every train spot is of donor D1; give sections of more donors, or bal"):
            aligner(**SMALL, balance_donors=True).fit(one)

    def test_an_inner_fold_of_one_donor_takes_its_spots_as_they_come(self, cohort):
        train, _ = split(cohort)
        assert InfoNCEAligner(**SMALL | {"epochs": None}, balance_donors=True).fit(train).epochs_ in {2, 5, 10, 20, 40}


def test_pairs_hold_kept_spots_with_their_depth_and_place(cohort):
    fitted = InfoNCEAligner(**SMALL | {"epochs": 1}).fit(cohort)
    some = cohort.map(lambda s: s.with_kept(np.arange(49) % 2 == 0))
    pairs = to_pairs(fitted, some, reference=cohort)
    assert pairs.n_spots == 6 * 25
    np.testing.assert_array_equal(pairs.depth[:25], cohort[0].depth[::2])
    np.testing.assert_array_equal(pairs.image[25:50], fitted.embed_image(cohort[1])[::2])
    assert pairs.donor[-1] == "D2"
    np.testing.assert_allclose(to_pairs(fitted, cohort, reference=cohort).profile.mean(axis=0), 0, atol=1e-5)
