import subprocess
import sys

import pytest
import torch

from training import architectures

# those that tell classes of pictures: 28x28 with their default config, and ten classes
PICTURE_NETWORKS = [
    name
    for name in architectures.names()
    if hasattr(config := architectures.make_config(name, {}), "height") and hasattr(config, "num_classes")
]


def test_every_file_of_the_folder_is_an_architecture_and_helpers_are_not():
    expected = {"autoencoder", "cnn", "lstm", "mlp", "numpy_mlp", "rnn", "transformer"}
    assert expected <= set(architectures.names())
    assert not any(name.startswith("_") for name in architectures.names())


@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_a_network_takes_raw_pixels_and_answers_logits_and_probabilities(name):
    served = architectures.as_served(architectures.build(name, {})).eval()
    logits_BC, probabilities_BC = served(torch.full((3, 28, 28), 255.0))
    assert logits_BC.shape == probabilities_BC.shape == (3, 10)
    assert logits_BC.dtype == probabilities_BC.dtype == torch.float32
    torch.testing.assert_close(probabilities_BC, torch.softmax(logits_BC, 1))
    torch.testing.assert_close(probabilities_BC.sum(1), torch.ones(3))


@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_weights_loaded_after_wrapping_are_the_ones_served(name):
    source, target = architectures.build(name, {}), architectures.build(name, {})
    served = architectures.as_served(target).eval()
    target.load_state_dict(source.state_dict())
    pixels_BHW = torch.rand(2, 28, 28) * 255
    torch.testing.assert_close(served(pixels_BHW)[0], source.eval()(pixels_BHW))


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_describes_itself_in_one_line(name):
    assert architectures.describe(name).endswith(".")
    assert architectures.num_parameters(architectures.build(name, {})) > 1000


@pytest.mark.parametrize(
    "name", ["nonsense", "_checks", "os", "training.architectures.mlp", "../mlp", "", "mlp.Network"]
)
def test_a_name_that_no_file_has_is_refused_and_named(name):
    with pytest.raises(ValueError, match="there is no architecture") as caught:
        architectures.build(name, {})
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        ("mlp", {"depth": 3}, "'depth'"),
        ("mlp", {"hidden": [0]}, r"hidden\[0\]"),
        ("mlp", {"hidden": [64, -1]}, r"hidden\[1\]"),
        ("mlp", {"hidden": 64}, "hidden"),
        ("mlp", {"hidden": "wide"}, "hidden"),
        ("mlp", {"hidden": [True]}, r"hidden\[0\]"),
        ("mlp", {"dropout": 1.0}, "dropout"),
        ("mlp", {"dropout": float("nan")}, "dropout"),
        ("mlp", {"dropout": "0.5"}, "dropout"),
        ("mlp", {"num_classes": 1e9}, "num_classes"),
        ("mlp", {"num_classes": 10**9}, "num_classes"),
        ("mlp", {"input_std": 0}, "input_std"),
        ("mlp", {"input_mean": -1}, "input_mean"),
        ("cnn", {"hidden": [64]}, "'hidden'"),
        ("cnn", {"channels": [32]}, "channels"),
        ("cnn", {"channels": [32, 0]}, r"channels\[1\]"),
        ("cnn", {"channels": None}, "channels"),
        ("cnn", {"height": 3}, "height"),
        ("cnn", {"dense": None}, "dense"),
        ("cnn", {"dropout": -0.1}, "dropout"),
        ("numpy_mlp", {"num_features": 0}, "num_features"),
        ("numpy_mlp", {"hidden": 8}, "hidden"),
        ("numpy_mlp", {"hidden": [8, 0]}, r"hidden\[1\]"),
        ("numpy_mlp", {"activation": "step"}, "activation"),
        ("numpy_mlp", {"output": "logits"}, "output"),
        ("numpy_mlp", {"num_classes": -1}, "num_classes"),
        ("rnn", {"num_channels": 0}, "num_channels"),
        ("rnn", {"hidden": [64]}, "hidden"),
        ("rnn", {"layers": 0}, "layers"),
        ("rnn", {"bidirectional": 1}, "bidirectional"),
        ("rnn", {"dropout": 1}, "dropout"),
        ("rnn", {"noise": -0.1}, "noise"),
        ("rnn", {"pooling": "median"}, "pooling"),
        ("rnn", {"pooling": ["mean"]}, "pooling"),
        ("rnn", {"input_mean": 0.5}, "input_mean"),
        ("rnn", {"input_mean": [0.5]}, "input_mean"),
        ("rnn", {"input_mean": [0.5] * 11 + ["0.5"]}, r"input_mean\[11\]"),
        ("rnn", {"input_mean": [float("-inf")] * 12}, r"input_mean\[0\]"),
        ("rnn", {"input_std": [1.0] * 11 + [0.0]}, r"input_std\[11\]"),
        ("lstm", {"vocab_size": 0}, "vocab_size"),
        ("lstm", {"vocab_size": 10**6}, "vocab_size"),
        ("lstm", {"embedding": 1.5}, "embedding"),
        ("lstm", {"hidden": None}, "hidden"),
        ("lstm", {"layers": True}, "layers"),
        ("lstm", {"bidirectional": "yes"}, "bidirectional"),
        ("lstm", {"word_dropout": 1.0}, "word_dropout"),
        ("lstm", {"pooling": "mean"}, "pooling"),
        ("lstm", {"max_tokens": 256}, "'max_tokens'"),
        ("transformer", {"width": 65}, "width"),
        ("transformer", {"heads": 0}, "heads"),
        ("transformer", {"mlp_width": -1}, "mlp_width"),
        ("transformer", {"max_tokens": 0}, "max_tokens"),
        ("transformer", {"dropout": None}, "dropout"),
        ("transformer", {"word_dropout": -0.5}, "word_dropout"),
        ("transformer", {"pooling": None}, "pooling"),
        ("autoencoder", {"height": 30}, "height"),
        ("autoencoder", {"width": 27}, "width"),
        ("autoencoder", {"channels": [16]}, "channels"),
        ("autoencoder", {"channels": [16, 0]}, r"channels\[1\]"),
        ("autoencoder", {"code_size": 0}, "code_size"),
        ("autoencoder", {"noise": float("nan")}, "noise"),
        ("autoencoder", {"input_std": 0}, "input_std"),
        ("autoencoder", {"num_classes": 10}, "'num_classes'"),
    ],
)
def test_an_unknown_field_or_impossible_value_is_refused_and_named(name, config, named):
    with pytest.raises(ValueError, match=named) as caught:
        architectures.build(name, config)
    assert f"architecture {name!r}" in str(caught.value)


def test_a_config_changes_the_network():
    network = architectures.build("mlp", {"hidden": [16, 8], "num_classes": 3, "height": 5, "width": 4})
    assert [tuple(p.shape) for p in network.parameters()] == [(16, 20), (16,), (8, 16), (8,), (3, 8), (3,)]
    network = architectures.build("cnn", {"channels": [4, 8], "dense": 16, "height": 9, "width": 12})
    assert network.eval()(torch.zeros(1, 9, 12)).shape == (1, 10)


def test_scaling_is_part_of_the_network():
    plain = architectures.build("mlp", {"hidden": [], "input_mean": 0.0, "input_std": 1.0})
    scaled = architectures.build("mlp", {"hidden": [], "input_mean": 50.0, "input_std": 100.0})
    scaled.load_state_dict(plain.state_dict())
    pixels_BHW = torch.rand(2, 28, 28) * 255
    torch.testing.assert_close(scaled(pixels_BHW), plain((pixels_BHW - 50) / 100))


def test_importing_the_registry_loads_nothing_of_the_trainer():
    code = (
        "import sys, training.architectures as a; a.build('cnn', {});"
        "heavy = {'onnx', 'onnxscript', 'onnxruntime', 'safetensors', 'training.loop', 'training.pipeline'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
