import numpy as np
import pytest
import torch

from tests.support.prediction import predict
from training import architectures
from training.export import state_dict

SMALL = {"channels": [4, 8], "dense": 16}


def test_weights_come_back_as_they_were():
    network = architectures.build("cnn", SMALL)
    again = state_dict.load(architectures.build("cnn", SMALL), state_dict.dump(network))
    assert not again.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_the_memory_layout_of_training_does_not_reach_the_file():
    network = architectures.build("cnn", SMALL)
    before = state_dict.dump(network)
    assert state_dict.dump(network.to(memory_format=torch.channels_last)) == before


def test_weights_of_another_config_are_refused():
    data = state_dict.dump(architectures.build("cnn", SMALL))
    with pytest.raises(RuntimeError, match="size mismatch"):
        state_dict.load(architectures.build("cnn", {**SMALL, "dense": 17}), data)


def test_the_file_holds_numbers_and_no_code(pictures):
    data = state_dict.dump(architectures.build("mlp", {"hidden": [8]}))
    assert data[8:9] == b"{"  # the safetensors header is JSON
    network = state_dict.load(architectures.build("mlp", {"hidden": [8]}), data)
    (logits,) = predict(network, pictures.images[:4])
    assert np.isfinite(logits).all()
