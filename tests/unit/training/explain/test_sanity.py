"""The bars are half of what was measured, or less; see docs/guides/interpretability.md for the figures."""

import pytest
import torch
from torch import nn

from training.explain.grad_cam import hires_cam
from training.explain.gradients import integrated_gradients, saliency
from training.explain.sanity import layers, randomization_test, similarity
from training.explain.scores import log_odds

NUM = 48


def integrated(network, pixels, classes):
    return integrated_gradients(network, pixels, classes, num_steps=16).values


@pytest.mark.parametrize("method", [saliency, integrated], ids=["saliency", "integrated"])
def test_explanations_of_pictures_are_lost_with_the_weights(classifier, pixels, method):
    some, classes = pixels[:NUM], classifier.classes[:NUM]
    found = randomization_test(
        classifier.network, classifier.fresh, lambda network: method(network, some, classes), where=some > 0
    )
    assert list(found.cascade) == list(reversed(layers(classifier.network)))
    assert abs(found.whole.signed) < 0.15
    assert found.whole.size < 0.45
    # the last layer alone is enough to lose most of it
    assert next(iter(found.cascade.values())).signed < 0.5


def test_maps_of_the_convolution_are_lost_with_the_weights(committed, pixels):
    cnn, some = committed("cnn"), pixels[:NUM]
    classes = cnn.network(some).argmax(dim=1)
    found = randomization_test(cnn.network, cnn.fresh, lambda network: hires_cam(network, some, classes))
    assert abs(found.whole.signed) < 0.5


def test_attributions_of_features_are_lost_with_the_weights(committed):
    subject = committed("numpy_mlp")
    rows = torch.from_numpy(subject.bundle.golden().inputs["features"][6:])
    mean, classes = rows.mean(dim=0, keepdim=True), torch.ones(len(rows), dtype=torch.int64)
    found = randomization_test(
        subject.network,
        subject.fresh,
        lambda network: integrated_gradients(log_odds(network), rows, classes, baseline=mean).values,
    )
    assert abs(found.whole.signed) < 0.4
    assert found.whole.size < 0.6


def test_a_method_that_never_looks_at_the_weights_is_caught(classifier, pixels):
    """It draws the picture's edges: plausible, the same for every network, and what the test is for."""
    some = pixels[:NUM]

    def edges(network):
        return some.diff(dim=2, append=some[:, :, -1:]).abs()

    found = randomization_test(classifier.network, classifier.fresh, edges, where=some > 0)
    assert found.whole.signed == pytest.approx(1)
    assert found.whole.size == pytest.approx(1)


def test_the_trained_network_is_left_as_it_is_and_measured_buffers_are_not_randomized(committed):
    subject = committed("numpy_mlp")
    before = {name: tensor.clone() for name, tensor in subject.network.state_dict().items()}
    seen = []

    def attribute(network):
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return torch.rand(2, 3)

    randomization_test(subject.network, subject.fresh, attribute)
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.network.state_dict().items())
    assert torch.equal(seen[-1]["inputs.mean"], before["inputs.mean"])
    changed = [{name for name in before if not torch.equal(state[name], before[name])} for state in seen]
    assert changed == [
        set(),
        {"layers.1.weight", "layers.1.bias"},
        {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"},
    ]


def test_similarity_is_the_rank_correlation_of_each_row():
    rows = torch.tensor([[1.0, 2.0, 3.0, -4.0]])
    assert similarity(rows, rows * 10 + 3).signed == pytest.approx(1)
    assert similarity(rows, -rows).signed == pytest.approx(-1)
    assert similarity(rows, -rows).size == pytest.approx(1)
    # a map that is the same everywhere orders nothing
    assert similarity(rows, torch.ones(1, 4)).signed == 0
    where = torch.tensor([[True, True, True, False]])
    assert similarity(rows, torch.tensor([[1.0, 2.0, 3.0, 99.0]]), where=where).signed == pytest.approx(1)


def test_layers_are_those_with_parameters_in_their_order():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert layers(network) == {"0": ["0.weight", "0.bias"], "2": ["2.weight", "2.bias"]}


def test_a_block_is_one_layer_and_a_parameter_outside_of_any_is_its_own():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(2))
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(4, 2, 4) for _ in range(2))

    found = layers(Blocks())
    assert list(found) == ["places", "blocks.0", "blocks.1"]
    assert sum(map(len, found.values())) == len(list(Blocks().parameters()))
