import numpy as np
import pytest
import torch

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training import architectures
from training.errors import NotExportable
from training.export import prune, state_dict

MLP = {"height": 4, "width": 5, "hidden": [12, 8], "num_classes": 3, "input_std": 1.0}
CNN = {"height": 8, "width": 8, "channels": [6, 8], "dense": 10, "num_classes": 3, "input_std": 1.0}
CONFIGS = {"mlp": MLP, "cnn": CNN}


def build(name):
    torch.manual_seed(0)
    return architectures.build(name, CONFIGS[name]).eval()


def pictures(name, rows=5):
    config = CONFIGS[name]
    return torch.rand(rows, config["height"], config["width"])


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_units_that_do_nothing_are_removed_and_nothing_changes(name):
    network = build(name)
    joints, _ = prune._JOINTS[name](CONFIGS[name], None)
    with torch.no_grad():
        for joint in joints:
            layer = network.get_submodule(joint.layer)
            # every second unit is dead, and its bias too, so that it answers zero whatever comes in
            layer.weight[::2] = 0
            layer.bias[::2] = 0
    smaller, config = prune.prune(name, CONFIGS[name], network, share=0.5)
    images = pictures(name)
    with torch.inference_mode():
        assert torch.allclose(smaller(images), network(images), atol=1e-6)
    assert architectures.num_parameters(smaller) < 0.6 * architectures.num_parameters(network)
    assert config != CONFIGS[name]


def test_each_hidden_layer_loses_its_share():
    _, config = prune.prune("mlp", MLP, build("mlp"), share=0.25)
    assert config == MLP | {"hidden": [9, 6]}
    _, config = prune.prune("cnn", CNN, build("cnn"), share=0.5)
    assert config == CNN | {"channels": [3, 4], "dense": 5}


def test_at_least_one_unit_stays():
    _, config = prune.prune("mlp", MLP, build("mlp"), share=0.999)
    assert config["hidden"] == [1, 1]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_smaller_network_is_rebuilt_from_its_config_and_weights(name):
    smaller, config = prune.prune(name, CONFIGS[name], build(name), share=0.4)
    again = state_dict.load(architectures.build(name, config), state_dict.dump(smaller))
    images = pictures(name)
    assert not smaller.training
    with torch.inference_mode():
        assert torch.equal(again(images), smaller(images))


def test_the_network_is_left_as_it_was():
    network = build("mlp")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prune.prune("mlp", MLP, network, share=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_smaller_network_is_trained_on():
    seen = []

    def fine_tune(network):
        seen.append(network)
        with torch.no_grad():
            network.head.bias.fill_(7)

    smaller, _ = prune.prune("mlp", MLP, build("mlp"), share=0.5, fine_tune=fine_tune)
    assert seen == [smaller]
    assert smaller.head.bias.tolist() == [7, 7, 7]


def test_a_committed_network_keeps_most_of_its_answers():
    bundle = open_bundle(LATEST["mlp"])
    architecture = bundle.manifest.architecture
    network = architectures.build("mlp", architecture.config)
    state_dict.load(network, bundle.read(bundle.artifact("state_dict")))
    smaller, _ = prune.prune("mlp", architecture.config, network, share=0.1)
    golden = bundle.golden()
    with torch.inference_mode():
        logits_BC = smaller(torch.tensor(golden.inputs["image"])).numpy()
    assert np.mean(logits_BC.argmax(1) == golden.outputs["logits"].argmax(1)) > 0.8


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="the share of units to remove must lie between 0 and 1"):
        prune.prune("mlp", MLP, build("mlp"), share=share)


def test_an_architecture_without_known_joints_is_refused():
    assert not prune.can_prune("numpy_mlp")
    with pytest.raises(NotExportable, match="no units of 'numpy_mlp' can be removed; of these they can: cnn, mlp"):
        prune.prune("numpy_mlp", {}, torch.nn.Identity(), share=0.5)
