"""The default aligner: negatives of one section, views beside each other, and stain that must not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.align.held_out import SMALL, auc, split

from hescribe.align.robust import RobustAligner
from hescribe.align.siglip import SigLIPAligner
from hescribe.data.image import ArrayImage
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, NotFittedError, UnknownNameError
from hescribe.train.contrastive import sigmoid_pair_loss


def restained(section):
    """The section as a weaker stain shows it, pink lost more than blue."""
    pixels = section.image.pixels.astype(float)
    paler = 255 - (255 - pixels) * [0.5, 0.7, 0.9]
    image = ArrayImage(paler.astype(np.uint8), section.image.mpp, f"restained {section.id}")
    return replace(section, image=image)


class TestNegativesOfOneSection:
    def test_a_loss_of_two_groups_is_that_of_each_alone(self):
        image, expression = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
        group = torch.tensor([0, 1, 0, 1, 1, 0])
        apart = [sigmoid_pair_loss(image[group == g], expression[group == g], 2.0, -1.0) * 3 for g in (0, 1)]
        both = sigmoid_pair_loss(image, expression, 2.0, -1.0, group=group)
        torch.testing.assert_close(both * 6, sum(apart))

    def test_groups_are_the_sections_of_kept_spots(self, cohort):
        some = cohort.map(lambda s: s.with_kept(np.arange(49) < (3 if s.id == "s1" else 2)))
        found = SigLIPAligner(negatives="section").group_of(some)
        assert found.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert SigLIPAligner().group_of(some) is None

    def test_they_change_what_is_learned(self, cohort):
        one, other = (
            SigLIPAligner(**SMALL).with_params(epochs=2, negatives=n).fit(cohort).embed_image(cohort[0])
            for n in ("batch", "section")
        )
        assert np.abs(one - other).max() > 0.01


class OffsetEncoder(PCAEncoder):
    """Gives the first section of a train cohort another level, as another batch would."""

    def encode(self, counts, genes):
        x = super().encode(counts, genes).copy()
        if len(counts) > 49:
            x[:49] += [30.0, -10.0, 5.0, 20.0]
        return x


class TestExpressionOfASection:
    @pytest.mark.parametrize("centred", [True, False])
    def test_its_level_is_not_learned_if_it_is_taken_out(self, cohort, centred):
        image = [
            SigLIPAligner(**SMALL | {"gene_encoder": encoder, "epochs": 5, "centre_expression": centred})
            .fit(cohort)
            .embed_image(cohort[0].blind())
            for encoder in (PCAEncoder(n_dims=4), OffsetEncoder(n_dims=4))
        ]
        assert (np.abs(image[0] - image[1]).max() < 1e-3) == centred

    def test_a_new_section_is_embedded_spot_by_spot(self, cohort):
        """Neither its mean nor any other spot is asked for."""
        train, test = split(cohort)
        aligner = RobustAligner(**SMALL | {"epochs": 2}).fit(train)
        few = test[0].with_table(test[0].table[:5].copy())
        np.testing.assert_allclose(aligner.embed_expression(few), aligner.embed_expression(test[0])[:5], atol=1e-5)


class TestRobust:
    def test_pairs_of_a_new_donor_are_found(self, cohort):
        train, test = split(cohort)
        assert auc(RobustAligner(**SMALL).fit(train), test) > 0.6

    def test_another_stain_does_not_hide_them(self, cohort):
        """As it hides them from an aligner that scales images by the train donors."""
        train, test = split(cohort)
        lost = {}
        for aligner in (RobustAligner(**SMALL), SigLIPAligner(**SMALL)):
            fitted = aligner.fit(train)
            lost[aligner.name] = auc(fitted, test) - auc(fitted, test.map(restained))
        assert lost["siglip"] > 0.1
        assert lost["robust"] < lost["siglip"] / 2

    def test_the_cosine_is_the_mean_of_those_of_the_views(self, cohort):
        aligner = RobustAligner(**SMALL | {"epochs": 2}).fit(cohort)
        image, expression = aligner.embed_image(cohort[0]), aligner.embed_expression(cohort[0])
        views = [(image[:, v] * 2**0.5, expression[:, v] * 2**0.5) for v in (slice(16), slice(16, None))]
        for side in views[0] + views[1]:
            np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(image @ expression.T, sum(x @ y.T for x, y in views) / 2, atol=1e-5)

    def test_colour_can_have_more_of_the_cosine(self, cohort):
        half = RobustAligner(**SMALL | {"epochs": 2}).fit(cohort)
        most = RobustAligner(**SMALL | {"epochs": 2}, color_share=0.75).fit(cohort)
        colour, network = (
            half.embed_image(cohort[0])[:, v] @ half.embed_expression(cohort[0])[:, v].T * 2
            for v in (slice(16), slice(16, None))
        )
        found = most.embed_image(cohort[0]) @ most.embed_expression(cohort[0]).T
        np.testing.assert_allclose(found, 0.75 * colour + 0.25 * network, atol=1e-5)

    def test_a_view_alone_is_siglip_with_its_settings(self, cohort):
        alone = RobustAligner(**SMALL | {"epochs": 2, "views": ("encoder",)}).fit(cohort)
        settings = {"standardise": "section", "negatives": "section", "centre_expression": True, "gene_head": "linear"}
        same = SigLIPAligner(**SMALL | settings | {"epochs": 2}).fit(cohort)
        np.testing.assert_allclose(alone.embed_image(cohort[0]), same.embed_image(cohort[0]), atol=1e-6)

    def test_a_fit_that_fails_half_way_leaves_nothing_fitted(self, cohort):
        aligner = RobustAligner(**SMALL | {"epochs": 1, "encoder": "no_such_encoder"})
        with pytest.raises(UnknownNameError, match="no_such_encoder"):
            aligner.fit(cohort)
        with pytest.raises(NotFittedError, match="call fit"):
            aligner.embed_image(cohort[0])

    def test_one_section_is_enough(self, cohort):
        fitted = RobustAligner(**SMALL | {"epochs": 2}).fit(cohort.where(lambda s: s.id == "s0"))
        assert np.isfinite(fitted.embed_image(cohort[1].blind())).all()

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"n_dims": 1}, "n_dims of RobustAligner must be at least 2"),
            ({"epochs": -1}, "epochs of RobustAligner must be at least 0"),
            ({"batch_size": 1}, "batch_size of RobustAligner must be at least 2"),
            ({"gene_encoder": "pca"}, "gene_encoder of RobustAligner must be"),
            ({"views": ("color", "stain")}, "views of RobustAligner are some of color, encoder, each once"),
            ({"views": ()}, "each once; got"),
            ({"color_share": 1.5}, "color_share of RobustAligner must be between 0 and 1"),
            ({"color_share": 0.7, "views": ("color",)}, "color_share"),
            ({"negatives": "donor"}, "negatives of RobustAligner must be 'batch' or 'section'"),
        ],
    )
    def test_parameters_out_of_their_limits_are_refused(self, cohort, given, told):
        with pytest.raises(InputError, match=told):
            RobustAligner(**SMALL).with_params(**given).fit(cohort)
