"""SEPAL: its layers against plain sums, what its published ways do, and that the surroundings reach a prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hescribe.errors import InputError
from hescribe.metrics.gene import correlate
from hescribe.predict._graph_layers import GCNConv, GraphConv, encode_offsets
from hescribe.predict._sepal_network import LAYOUTS, LocalGraphs, SepalNetwork, two_stage_loss
from hescribe.predict.ridge import RidgePredictor
from hescribe.predict.sepal import SepalPredictor
from hescribe.prep.graph import spot_graph
from hescribe.testing.cohorts import colour_cohort, planted_cohort

SIDE = 9


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


def graphs(cohort, n_hops=1):
    section = cohort[0]
    x = np.random.default_rng(0).normal(size=(section.n_spots, 8)).astype(np.float32)
    return LocalGraphs.of(section, x, n_hops), x


class TestLayers:
    def test_graph_convolution_adds_up_neighbours(self):
        x, edges = torch.randn(1, 4, 3), torch.tensor([[[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0.0]]])
        layer = GraphConv(3, 2)
        expected = layer.own(x[0, 0]) + layer.others(x[0, 1]) + layer.others(x[0, 2])
        torch.testing.assert_close(layer(x, edges)[0, 0], expected)
        torch.testing.assert_close(layer(x, edges)[0, 3], layer.own(x[0, 3]))  # it touches nothing

    def test_kipf_and_welling_weigh_by_degree(self):
        """Two touching nodes, each of degree 2 with itself: the mean of both."""
        x, layer = torch.randn(1, 2, 3), GCNConv(3, 2)
        edges = torch.tensor([[[0.0, 1], [1, 0]]])
        torch.testing.assert_close(layer(x, edges)[0, 0], layer.weights(x[0].mean(dim=0)))

    def test_offsets_that_differ_get_other_codes_and_half_of_the_code_is_each_axis(self):
        code = encode_offsets(torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, 0]]), 16)
        assert len({tuple(row.tolist()) for row in code}) == 4
        torch.testing.assert_close(code[1, 8:], code[0, 8:])
        torch.testing.assert_close(code[2, :8], code[0, :8])


class TestGraphs:
    def test_the_centre_comes_first_and_absent_nodes_are_silent(self, cohort):
        local, x = graphs(cohort)
        got, offset, edges, there = local.take(torch.arange(cohort[0].n_spots))
        np.testing.assert_array_equal(got[:, 0].numpy(), x)
        assert not offset[:, 0].any()
        assert not got[~there].any()
        assert not edges[~there].any()
        assert there.sum(dim=1).tolist().count(4) == 4  # corners of a square reach three others

    def test_edges_are_those_of_the_section(self, cohort):
        local, _ = graphs(cohort, 2)
        touching = (spot_graph(cohort[0]) > 0).toarray()
        for i in (0, 24, 48):
            nodes = local.nodes[i][local.nodes[i] >= 0]
            n = len(nodes)
            np.testing.assert_array_equal(local.edges[i][:n, :n], touching[np.ix_(nodes, nodes)])

    def test_two_hops_of_a_square_array_reach_the_24_around_a_spot(self, cohort):
        local, _ = graphs(cohort, 2)
        assert (local.nodes[24] >= 0).sum() == 25
        assert local.nodes.shape[1] == 25


class TestPublished:
    def test_correction_has_the_size_that_the_published_layers_add_up_to(self):
        with torch.device("meta"):
            network = SepalNetwork(768, 256, LAYOUTS["paper"], floor=False, top_node=False)
        n_first = 769 * 256  # what the patch says: the last layer of the published ViT
        n_correction = sum(p.numel() for p in network.parameters()) - n_first
        assert (
            n_correction == 1537 * 512 + 513 * 256 - 256 + 256 + 257 * 128 - 128 + 128 - 128 * 0 + 129 * 256 - 256 * 0
        )

    def test_with_the_floor_no_correction_falls_below_minus_1(self, cohort):
        local, _ = graphs(cohort)
        inputs = local.take(torch.arange(20))
        for floor in (True, False):
            network = SepalNetwork(8, 5, LAYOUTS["small"], floor=floor, top_node=False).eval()
            torch.nn.init.constant_(network.graph[0].own.bias, -5.0)
            assert (network.correct(*inputs).min() < -1.001) != floor

    def test_with_published_pooling_a_node_beside_the_centre_decides(self, cohort):
        """The centre may change without any change of the correction, if another node scores higher."""
        local, _ = graphs(cohort)
        _, _, edges, there = local.take(torch.tensor([24]))
        network = SepalNetwork(8, 5, LAYOUTS["small"], floor=True, top_node=True).eval()
        nodes = torch.zeros(1, 9, 5)
        nodes[0, 0], nodes[0, 3] = 1.0, 2.0
        with torch.no_grad():
            network.score.own.weight.fill_(1.0)
            network.score.own.bias.zero_()
            network.score.others.weight.zero_()
        torch.testing.assert_close(network._read(nodes, edges, there), nodes[:, 3] * np.tanh(10.0))
        network.score = None
        torch.testing.assert_close(network._read(nodes, edges, there), nodes[:, 0])


def test_the_correction_does_not_teach_the_first_stage(cohort):
    local, _ = graphs(cohort)
    inputs, network = local.take(torch.arange(10)), SepalNetwork(8, 5, LAYOUTS["small"], floor=False, top_node=False)
    wanted = torch.randn(10, 5)
    two_stage_loss(network, inputs, (wanted,), torch.arange(10)).backward()
    gradient = network.first.weight.grad.clone()
    network.zero_grad()
    torch.nn.functional.mse_loss(network.say(inputs[0]), wanted).backward()
    torch.testing.assert_close(network.first.weight.grad, gradient)


def planted(seed):
    """Genes follow the mean of what the touching spots show, not the spot itself; return the best score too."""
    rng = np.random.default_rng(seed)
    signals = [rng.uniform(0, 1, SIDE * SIDE) for _ in range(4)]
    targets, truths = [], []
    for signal in signals:
        square = np.pad(signal.reshape(SIDE, SIDE), 1)
        counts = np.pad(np.ones((SIDE, SIDE)), 1)
        around, n = (
            sum(np.roll(a, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)[1:-1, 1:-1]
            for a in (square, counts)
        )
        truths.append((around / n).ravel()[:, None] * 4 * np.ones(6))
        targets.append(truths[-1] + rng.normal(0, 0.1, (SIDE * SIDE, 6)))
    return planted_cohort(signals, targets), np.nanmean(correlate(targets[-1], truths[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "epochs", "share"), [("paper", 40, 0.75), ("small", 150, 0.9)])
def test_what_only_the_neighbours_show_is_found(size, epochs, share):
    cohort, best = planted(0)
    train, test = cohort.where(lambda s: s.donor != "D3"), cohort[3]
    y_true = test.layer("target")

    def score(predictor):
        return np.nanmean(correlate(y_true, predictor.fit(train).predict(test.blind()).mean))

    assert score(RidgePredictor(encoder="color", fov_um=(112.0,), alpha=1.0)) < 0.3
    assert (
        score(SepalPredictor(encoder="color", fov_um=(112.0,), size=size, epochs=epochs, lr=3e-3, batch_size=64))
        > share * best
    )


def test_a_prediction_does_not_depend_on_the_chunk_it_is_in(cohort):
    fitted = SepalPredictor(encoder="color", epochs=1).fit(cohort)
    whole = fitted.predict(cohort[0].blind()).mean
    design = replace(fitted.design(), chunk=7)
    np.testing.assert_allclose(design.predict(fitted._fitted(), cohort[0].blind()), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_spots", [1, 2, 3])
def test_few_and_isolated_spots_are_predicted_from_their_patch(cohort, n_spots):
    fitted = SepalPredictor(encoder="color", epochs=1).fit(cohort)
    section = cohort[0].blind()
    far = section.with_table(section.table[[0, 20, 40][:n_spots]].copy())
    assert np.isfinite(fitted.predict(far).mean).all()
    lone = far.with_table(far.table[:1].copy())
    np.testing.assert_allclose(fitted.predict(far).mean[0], fitted.predict(lone).mean[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("changes", "said"), [({"n_hops": 0}, "n_hops"), ({"size": "big"}, "size")])
def test_parameters_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=f"{said} of SepalPredictor must be"):
        SepalPredictor(encoder="color", **changes).fit(cohort)
